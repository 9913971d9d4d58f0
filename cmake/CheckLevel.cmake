# Fails if objects of a level offer the linker anything outside the level's namespace.
#
#   cmake -DNM=nm -DLEVEL=v4 "-DOBJECTS=a.o;b.o" -P CheckLevel.cmake
#
# A function that is inlined nowhere is emitted by every object that uses it, and the linker keeps
# one of them for all: were it that of a level, processors below it would meet its instructions.
string(LENGTH "${LEVEL}" length)
foreach(object ${OBJECTS})
    execute_process(COMMAND ${NM} --defined-only --extern-only --format=posix ${object}
        OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
    foreach(symbol ${symbols})
        # DW.ref.*: a pointer to the routine that unwinds the stack, the same in all objects.
        if(NOT symbol MATCHES "^(_ZN6aimclr3cpu${length}${LEVEL}|DW\\.ref\\.)")
            message(FATAL_ERROR "${object}, compiled for ${LEVEL} alone, offers all: ${symbol}")
        endif()
    endforeach()
endforeach()
