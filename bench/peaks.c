/* The machine's own peaks: multiply-accumulate loops that live in registers, and a sum over more memory than the
 * caches hold. One thread per processor. Prints one JSON object, in GFLOP/s (int8: GOP/s) and GB/s of all threads.
 * cc -O2 -pthread peaks.c -o peaks && ./peaks 2 [amx | avx512 | avxvnni | avx2: with no instructions but these and what
 * comes after them] */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 25 /* of milliseconds: short, so that one of them is not disturbed */
#define STREAM_ROUNDS 5
#define STREAM_BYTES ((size_t)384 << 20)
#define HUGE_PAGE ((size_t)2 << 20)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

/* 12 accumulators: more than latency times throughput of any x86 so far. The empty asm keeps them in registers. */
#define TWELVE(STEP) STEP(0) STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
#define KEEP(i) __asm__ volatile("" : "+v"(c##i));

__attribute__((target("avx512f,avx512vnni"))) static double int8_avx512vnni(long n) {
#define ZERO(i) __m512i c##i = _mm512_setzero_si512();
    __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1);
    TWELVE(ZERO)
    __asm__ volatile("" : "+v"(a), "+v"(b));
    for (long k = 0; k < n; k++) {
#define STEP(i) c##i = _mm512_dpbusd_epi32(c##i, a, b); KEEP(i)
        TWELVE(STEP)
#undef STEP
    }
#undef ZERO
    return 12.0 * 128 * n; /* 64 products and 64 sums each */
}

__attribute__((target("avx512f,avx512bf16"))) static double bf16_avx512bf16(long n) {
#define ZERO(i) __m512 c##i = _mm512_setzero_ps();
    __m512i bits = _mm512_set1_epi16(0x3c00);
    __asm__ volatile("" : "+v"(bits));
    __m512bh a = (__m512bh)bits, b = (__m512bh)bits;
    TWELVE(ZERO)
    for (long k = 0; k < n; k++) {
#define STEP(i) c##i = _mm512_dpbf16_ps(c##i, a, b); KEEP(i)
        TWELVE(STEP)
#undef STEP
    }
#undef ZERO
    return 12.0 * 64 * n;
}

__attribute__((target("avx512f"))) static double fp32_avx512(long n) {
#define ZERO(i) __m512 c##i = _mm512_setzero_ps();
    __m512 a = _mm512_set1_ps(1e-3f), b = _mm512_set1_ps(1e-3f);
    __asm__ volatile("" : "+v"(a), "+v"(b));
    TWELVE(ZERO)
    for (long k = 0; k < n; k++) {
#define STEP(i) c##i = _mm512_fmadd_ps(a, b, c##i); KEEP(i)
        TWELVE(STEP)
#undef STEP
    }
#undef ZERO
    return 12.0 * 32 * n;
}

__attribute__((target("avx2,fma"))) static double fp32_avx2(long n) {
#define ZERO(i) __m256 c##i = _mm256_setzero_ps();
    __m256 a = _mm256_set1_ps(1e-3f), b = _mm256_set1_ps(1e-3f);
    __asm__ volatile("" : "+v"(a), "+v"(b));
    TWELVE(ZERO)
    for (long k = 0; k < n; k++) {
#define STEP(i) c##i = _mm256_fmadd_ps(a, b, c##i); __asm__ volatile("" : "+x"(c##i));
        TWELVE(STEP)
#undef STEP
    }
#undef ZERO
    return 12.0 * 16 * n;
}

/* VNNI of 32 bytes. In assembly, which compilers without -mavxvnni take as well. */
__attribute__((target("avx2"))) static double int8_avxvnni(long n) {
#define ZERO(i) __m256i c##i = _mm256_setzero_si256();
    __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(1);
    TWELVE(ZERO)
    for (long k = 0; k < n; k++) {
#define STEP(i) __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(c##i) : "x"(a), "x"(b));
        TWELVE(STEP)
#undef STEP
    }
#undef ZERO
    return 12.0 * 64 * n;
}

/* Without VNNI: pairs of 8-bit products in 16 bits, pairs of those in 32, and a sum. */
__attribute__((target("avx2"))) static double int8_avx2(long n) {
#define ZERO(i) __m256i c##i = _mm256_setzero_si256();
    __m256i a = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    TWELVE(ZERO)
    for (long k = 0; k < n; k++) {
#define STEP(i) { __m256i p; __asm__ volatile("vpmaddubsw %1, %1, %0\n vpmaddwd %2, %0, %0" : "=&x"(p) : "x"(a), "x"(ones)); \
    c##i = _mm256_add_epi32(c##i, p); __asm__ volatile("" : "+x"(c##i)); }
        TWELVE(STEP)
#undef STEP
    }
#undef ZERO
    return 12.0 * 64 * n;
}

static int has_avxvnni(void) {
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

#if defined(__linux__) && __has_include(<amxtileintrin.h>)
#include <sys/syscall.h>

/* Linux wants to be asked for the tiles' state. */
static int tiles(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 3) == 3 && (d >> 22 & 1) &&
           syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

static void eight_tiles(void) {
    static struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {
        1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
}

/* 4 sums: 16 cycles for each hide the latency of 52. */
#define FOUR(name) \
    __asm__ volatile(name " %tmm6, %tmm4, %tmm0\n" name " %tmm7, %tmm4, %tmm1\n" \
                     name " %tmm6, %tmm5, %tmm2\n" name " %tmm7, %tmm5, %tmm3")
static double int8_amx(long n) {
    eight_tiles();
    for (long k = 0; k < n; k++) FOUR("tdpbusd");
    __asm__ volatile("tilerelease");
    return 4.0 * 2 * 16 * 16 * 64 * n;
}

static double bf16_amx(long n) {
    eight_tiles();
    for (long k = 0; k < n; k++) FOUR("tdpbf16ps");
    __asm__ volatile("tilerelease");
    return 4.0 * 2 * 16 * 16 * 32 * n;
}
#else
static int tiles(void) { return 0; }
static double int8_amx(long n) { return 0 * n; }
static double bf16_amx(long n) { return 0 * n; }
#endif

typedef double (*kernel)(long);
static int with_tiles, with_avx512, with_vnni; /* of 32 bytes */
static kernel pick(const char *kind, const char **isa) {
    int int8 = !strcmp(kind, "int8"), bf16 = !strcmp(kind, "bf16"), fp32 = !strcmp(kind, "fp32");
    int f = with_avx512 && __builtin_cpu_supports("avx512f"), avx2 = __builtin_cpu_supports("avx2");
    if (with_tiles && int8) { *isa = "amx-int8"; return int8_amx; }
    if (with_tiles && bf16) { *isa = "amx-bf16"; return bf16_amx; }
    if (int8 && f && __builtin_cpu_supports("avx512vnni")) { *isa = "avx512-vnni"; return int8_avx512vnni; }
    if (int8 && with_vnni && has_avxvnni()) { *isa = "avx-vnni"; return int8_avxvnni; }
    if (int8 && avx2) { *isa = "avx2-pmaddubsw"; return int8_avx2; }
    if (bf16 && f && __builtin_cpu_supports("avx512bf16")) { *isa = "avx512-bf16"; return bf16_avx512bf16; }
    if (fp32 && f) { *isa = "avx512"; return fp32_avx512; }
    if (fp32 && avx2 && __builtin_cpu_supports("fma")) { *isa = "avx2-fma"; return fp32_avx2; }
    return NULL;
}
#else
typedef double (*kernel)(long);
static int with_tiles, with_avx512, with_vnni;
static int tiles(void) { return 0; }
static kernel pick(const char *kind, const char **isa) { (void)kind; (void)isa; return NULL; }
#endif

static kernel chosen;
static long turns;
static pthread_barrier_t gate;
static double work[256], from[256], to[256];
static volatile uint64_t sink;

static void *compute(void *arg) {
    pthread_barrier_wait(&gate);
    from[(long)arg] = now();
    work[(long)arg] = chosen(turns);
    to[(long)arg] = now();
    pthread_barrier_wait(&gate);
    return NULL;
}

static void *stream(void *arg) {
    uint64_t *data = aligned_alloc(HUGE_PAGE, STREAM_BYTES), s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    if (!data) exit(1);
#ifdef MADV_HUGEPAGE /* weights lie in such */
    madvise(data, STREAM_BYTES, MADV_HUGEPAGE);
#endif
    memset(data, 1, STREAM_BYTES);
    pthread_barrier_wait(&gate);
    from[(long)arg] = now();
    for (size_t i = 0; i < STREAM_BYTES / 8; i += 8) {
        __builtin_prefetch(data + i + 256);
        s0 += data[i] + data[i + 1]; s1 += data[i + 2] + data[i + 3];
        s2 += data[i + 4] + data[i + 5]; s3 += data[i + 6] + data[i + 7];
    }
    sink = s0 + s1 + s2 + s3;
    work[(long)arg] = STREAM_BYTES;
    to[(long)arg] = now();
    pthread_barrier_wait(&gate);
    free(data);
    return NULL;
}

/* Best of the rounds: a peak, so what disturbs is left out. */
static double best(void *(*body)(void *), int threads, int rounds) {
    double top = 0;
    for (int r = 0; r < rounds; r++) {
        pthread_t ids[256];
        for (long i = 0; i < threads; i++) pthread_create(&ids[i], NULL, body, (void *)i);
        pthread_barrier_wait(&gate);
        pthread_barrier_wait(&gate);
        double first = 1e30, last = 0, total = 0;
        for (int i = 0; i < threads; i++) {
            pthread_join(ids[i], NULL);
            total += work[i];
            if (from[i] < first) first = from[i];
            if (to[i] > last) last = to[i];
        }
        if (total / (last - first) > top) top = total / (last - first);
    }
    return top / 1e9;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    const char *kinds[] = {"int8", "bf16", "fp32"};
    const char *sets[] = {"amx", "avx512", "avxvnni", "avx2"};
    int first = 0;
    while (argc > 2 && first < 4 && strcmp(argv[2], sets[first])) first++;
    if (threads < 1 || threads > 256 || first == 4) return 2;
    with_tiles = first == 0 && tiles();
    with_avx512 = first <= 1;
    with_vnni = first <= 2;
    pthread_barrier_init(&gate, NULL, threads + 1);
    printf("{");
    for (int k = 0; k < 3; k++) {
        const char *isa = "";
        chosen = pick(kinds[k], &isa);
        turns = with_tiles && k < 2 ? 100000 : 1000000;
        if (chosen) printf("\"%s\": {\"gops\": %.1f, \"how\": \"%s\"}, ", kinds[k], best(compute, threads, ROUNDS), isa);
    }
    printf("\"memory\": {\"gb_per_s\": %.1f, \"how\": \"sum over %zu MiB per thread\"}}\n", best(stream, threads, STREAM_ROUNDS), STREAM_BYTES >> 20);
    return 0;
}
