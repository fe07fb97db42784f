// Lets a module that was built with a new glibc load where an older one is: wheels are then manylinux2014 (glibc 2.17).
//
// glibc 2.34 moved threads into libc, and gave these functions a new version there; the linker takes the newest version
// that it sees, though the first does the same. So calls go through `--wrap`, to the first version by name.
// `__libc_single_threaded` (2.32) lets libstdc++ count references without atomic instructions; here it is false.
#include <pthread.h>

#if defined(__x86_64__)
#define EMBEDRT_FIRST_GLIBC "GLIBC_2.2.5"
#else  // aarch64: CMakeLists.txt takes this file for these two
#define EMBEDRT_FIRST_GLIBC "GLIBC_2.17"
#endif

extern "C" {

char __libc_single_threaded = 0;

int embedrt_first_pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int embedrt_first_pthread_join(pthread_t, void**);
__asm__(".symver embedrt_first_pthread_create, pthread_create@" EMBEDRT_FIRST_GLIBC);
__asm__(".symver embedrt_first_pthread_join, pthread_join@" EMBEDRT_FIRST_GLIBC);

int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
    return embedrt_first_pthread_create(thread, attributes, start, argument);
}

int __wrap_pthread_join(pthread_t thread, void** result) { return embedrt_first_pthread_join(thread, result); }

}  // extern "C"
