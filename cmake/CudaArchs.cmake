# Which GPU architectures the CUDA kernels are compiled for, and whether nvcc compiles at all.

# Machine code runs on every GPU of its major version from its minor version on: that of 80 serves
# 86 and 89, 100 serves 103, and 120 serves 121. See docs/gpus.md.
set(AIMCLR_ALL_ARCHS 75 80 90 100 120)

# Compute capabilities of this machine's GPUs, such as "80;90"; empty where there is none.
function(aimclr_gpus_here out)
    set(${out} "" PARENT_SCOPE)
    find_program(nvidia_smi nvidia-smi NO_CACHE)
    if(NOT nvidia_smi)
        return()
    endif()
    execute_process(COMMAND "${nvidia_smi}" --query-gpu=compute_cap --format=csv,noheader
        OUTPUT_VARIABLE listing ERROR_QUIET RESULT_VARIABLE failed)
    if(failed)
        return()
    endif()
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" archs "${listing}")
    list(TRANSFORM archs REPLACE "\\." "")
    list(REMOVE_DUPLICATES archs)
    list(SORT archs COMPARE NATURAL)
    set(${out} "${archs}" PARENT_SCOPE)
endfunction()

# Architectures that `nvcc` compiles for, such as "75;80;90".
function(aimclr_nvcc_archs nvcc out)
    execute_process(COMMAND "${nvcc}" --list-gpu-arch
        OUTPUT_VARIABLE listing ERROR_VARIABLE error RESULT_VARIABLE failed)
    if(failed)
        message(FATAL_ERROR "${nvcc} --list-gpu-arch failed: ${error}")
    endif()
    string(REGEX MATCHALL "compute_[0-9]+" archs "${listing}")
    list(TRANSFORM archs REPLACE "compute_" "")
    set(${out} "${archs}" PARENT_SCOPE)
endfunction()

# `wanted` is AUTO (this machine's GPUs, or ALL without one), ALL, or a list of architectures.
function(aimclr_cuda_archs wanted nvcc out)
    aimclr_nvcc_archs("${nvcc}" known)
    string(TOUPPER "${wanted}" mode)
    if(NOT mode MATCHES "^(AUTO|ALL)$")
        string(REPLACE "," ";" archs "${wanted}")
        foreach(arch IN LISTS archs)
            if(NOT arch IN_LIST known)
                list(JOIN known ", " listed)
                message(FATAL_ERROR "AIMCLR_CUDA_ARCHS: ${nvcc} does not compile for '${arch}'. "
                    "It knows ${listed}; AUTO (this machine's GPUs) and ALL are other choices")
            endif()
        endforeach()
        set(${out} "${archs}" PARENT_SCOPE)
        return()
    endif()

    set(archs "")
    if(mode STREQUAL "AUTO")
        aimclr_gpus_here(here)
        list(JOIN here ", " listed)
        foreach(arch IN LISTS here)
            if(arch IN_LIST known)
                list(APPEND archs ${arch})
            endif()
        endforeach()
        if(here AND archs STREQUAL here)
            message(STATUS "CUDA kernels for this machine's GPUs: ${listed}")
        elseif(here)
            message(WARNING "${nvcc} does not compile for each of this machine's GPUs (${listed})")
        endif()
    endif()
    if(NOT archs)
        set(unknown "")
        foreach(arch IN LISTS AIMCLR_ALL_ARCHS)
            if(arch IN_LIST known)
                list(APPEND archs ${arch})
            else()
                list(APPEND unknown ${arch})
            endif()
        endforeach()
        list(JOIN archs ", " listed)
        message(STATUS "CUDA kernels for GPUs in general: ${listed}")
        if(unknown)
            list(JOIN unknown ", " listed)
            message(STATUS "${nvcc} is too old for ${listed}: such GPUs get PTX")
        endif()
    endif()
    set(${out} "${archs}" PARENT_SCOPE)
endfunction()

# Sets `out` to why `nvcc` cannot compile and link a CUDA program, or to nothing if it can: its host
# compiler may be too new for it, or headers and libraries missing.
function(aimclr_try_nvcc nvcc folder out)
    file(WRITE "${folder}/trial.cu" "#include <cuda_bf16.h>
#include <map>
#include <mutex>
__global__ void kernel(__nv_bfloat16* x) { *x = __float2bfloat16_rn(1.0f); }
int main() { return 0; }
")
    set(host "")
    if(DEFINED ENV{CUDAHOSTCXX})
        set(host "-ccbin=$ENV{CUDAHOSTCXX}")
    endif()
    execute_process(
        COMMAND "${nvcc}" -std=c++17 ${host} "${folder}/trial.cu" -o "${folder}/trial"
        OUTPUT_VARIABLE output ERROR_VARIABLE error RESULT_VARIABLE failed)
    set(${out} "" PARENT_SCOPE)
    if(failed)
        string(REGEX MATCH "[^\n]*([Ee]rror|not found)[^\n]*" reason "${error}\n${output}")
        if(NOT reason)
            set(reason "${failed}")
        endif()
        string(STRIP "${reason}" reason)
        string(REPLACE ";" "," reason "${reason}")
        set(${out} "${nvcc} failed a trial compile (${reason})" PARENT_SCOPE)
    endif()
endfunction()
