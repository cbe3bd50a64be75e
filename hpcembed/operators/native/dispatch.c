/* Instruction sets of this processor for which the library has passes, the best first. */
const char *supported(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return "avx512 avx2 sse2";
    return avx2 ? "avx2 sse2" : "sse2";
#elif defined(__aarch64__)
    return "neon";
#else
    return "plain";
#endif
}
