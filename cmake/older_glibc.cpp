// What older versions of glibc lack, for libraries that are to load there (AIMCLR_GLIBC_STUBS).

// Since 2.32 libstdc++ asks it whether there is only one thread; 0 is "perhaps not", which is safe.
extern "C" __attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
