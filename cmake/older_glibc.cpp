// What older versions of glibc lack, for libraries that are to load there (AIMCLR_GLIBC_STUBS).
// A libstdc++ that is linked in was compiled for this machine's glibc and asks for these.

#include <sys/random.h>

#define AIMCLR_OWN extern "C" __attribute__((visibility("hidden")))

// Since 2.32. Whether there is only one thread: 0 is "perhaps not", which is always safe.
AIMCLR_OWN char __libc_single_threaded;
char __libc_single_threaded = 0;

// Since 2.36. For std::random_device; getrandom has been there since 2.25.
AIMCLR_OWN unsigned arc4random() {
    unsigned word = 0;
    while (getrandom(&word, sizeof word, 0) != sizeof word) {
    }
    return word;
}
