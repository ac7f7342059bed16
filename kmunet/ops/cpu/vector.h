// Vectors of floats for one instruction set, with the few functions that the scan needs.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define UNROLL _Pragma("GCC unroll 16")

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, BLOCKS = 2, GROUP = 2;  // vectors, states that step together
#elif defined(__AVX2__)
constexpr int LANES = 8, BLOCKS = 2, GROUP = 2;
#else
constexpr int LANES = 4, BLOCKS = 2, GROUP = 1;
#endif

typedef float V __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

inline V load_vector(const float *from) {
  return *reinterpret_cast<const Unaligned *>(from);
}
inline void store_vector(float *to, V v) { *reinterpret_cast<Unaligned *>(to) = v; }
inline V broadcast(float v) { return v - V{}; }

// Contraction is off: what is fused is written here.
inline V fma(V a, V b, V c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__ARM_NEON)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

inline V fms(V a, V b, V c) {  // a b - c
#if defined(__AVX512F__)
  return _mm512_fmsub_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmsub_ps(a, b, c);
#else
  return fma(a, b, -c);
#endif
}

// The larger and the smaller number. With an x that is not a number: x, which is why the
// instructions have it second.
inline V at_least(V low, V x) {
#if defined(__AVX512F__)
  return _mm512_max_ps(low, x);
#elif defined(__AVX2__)
  return _mm256_max_ps(low, x);
#else
  return x < low ? low : x;
#endif
}
inline V at_most(V high, V x) {
#if defined(__AVX512F__)
  return _mm512_min_ps(high, x);
#elif defined(__AVX2__)
  return _mm256_min_ps(high, x);
#else
  return x > high ? high : x;
#endif
}

inline V positive(V x) { return at_least(V{}, x); }
inline V magnitude(V x) { return (V)((I)x & 0x7fffffff); }
inline V minus_magnitude(V x) { return (V)((I)x | INT32_MIN); }

#if defined(__AVX512F__)
// 2^(j/16), which one register holds.
alignas(64) constexpr float ROOTS[16] = {
    1.0f, 1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f,
    1.29683959f, 1.35425556f, 1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f,
    1.68179286f, 1.75625217f, 1.8340081f, 1.91520655f,
};

// 2^x for x = whole + rest, relative error 1e-7, exactly 1 at 0. `sum` is x + MAGIC, from
// the lowest four bits of which comes the root; |rest| <= 1/32, so three terms are enough.
constexpr float MAGIC = 786432.0f;  // the next number is 1/16 more
inline V power2_of_parts(V sum, V whole, V rest) {
  const V root = _mm512_permutexvar_ps((__m512i)sum, load_vector(ROOTS));
  V more = fma(rest, broadcast(0.05550595f), broadcast(0.240234286f));
  more = rest * fma(rest, more, broadcast(0.693147182f));
  return _mm512_scalef_ps(fma(root, more, root), whole);
}

// 2^(a b) for |a b| up to 3e20; an infinity or no number beyond.
inline V power2_of(V a, V b) {
  const V sum = fma(a, b, broadcast(MAGIC)), whole = sum - MAGIC;
  return power2_of_parts(sum, whole, fms(a, b, whole));
}
#else
// 2^f for |f| <= 1/2, relative error 9e-8, exactly 1 at 0.
inline V power2_near_0(V f) {
  V p = fma(broadcast(0.00132647273f), f, broadcast(0.00967151299f));
  p = fma(p, f, broadcast(0.0555073358f));
  p = fma(p, f, broadcast(0.240222424f));
  p = fma(p, f, broadcast(0.693147004f));
  return fma(p, f, broadcast(1.0f));
}

constexpr float MAGIC = 12582912.0f;  // the lowest bits of i + MAGIC are those of i

// 2^(a b); below 2^-126 it counts as 0. The whole part is added to the exponent.
inline V power2_of(V a, V b) {
  const V x = at_most(broadcast(128.0f), at_least(broadcast(-126.4f), a * b));
  const V sum = x + MAGIC, p = power2_near_0(x - (sum - MAGIC));
  return (V)((I)p + ((I)sum << 23));
}
#endif

// exp(x) for x <= 0 to within rounding; 1e-38 below -87.
inline V exp_negative(V x) {
  x = at_least(broadcast(-87.0f), x);
  const V sum = fma(x, broadcast(1.44269502f), broadcast(MAGIC)), whole = sum - MAGIC;
#if defined(__AVX512F__)
  const V rest = fms(x, broadcast(1.44269502f), whole);
  return power2_of_parts(sum, whole, fma(x, broadcast(1.92596299e-8f), rest));
#else  // Cody and Waite's reduction; a product, so that no number stays none
  V f = fma(whole, broadcast(-0.693359375f), x);
  f = fma(whole, broadcast(2.12194440e-4f), f) * broadcast(1.44269502f);
  return power2_near_0(f) * (V)(((I)sum << 23) + 0x3f800000);
#endif
}

// log(1 + z) for 0 <= z <= 1, relative error 4e-8 before rounding.
inline V log1p(V z) {
  V p = fma(broadcast(0.0053648185f), z, broadcast(-0.0300657693f));
  p = fma(p, z, broadcast(0.0792044997f));
  p = fma(p, z, broadcast(-0.137538001f));
  p = fma(p, z, broadcast(0.191536546f));
  p = fma(p, z, broadcast(-0.248571634f));
  p = fma(p, z, broadcast(0.33321324f));
  p = fma(p, z, broadcast(-0.499996483f));
  return fma(p * z, z, z);
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), without a division.
inline V softplus(V x) {
  return log1p(exp_negative(minus_magnitude(x))) + positive(x);
}

// The same, and its slope 1 / (1 + exp(-x)).
inline V softplus(V x, V &slope) {
  const V z = exp_negative(minus_magnitude(x)), inverse = broadcast(1.0f) / (z + 1.0f);
  slope = x < 0.0f ? z * inverse : inverse;
  return log1p(z) + positive(x);
}

// Lane l of a, or of b where l has the bit H; from the neighbour across the bit if `far`.
template <int H, bool far, int... L>
inline V pick(V a, V b, std::integer_sequence<int, L...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, ((far ? L ^ H : L) + (L & H ? LANES : 0))...);
#else
  return __builtin_shuffle(a, b, I{((far ? L ^ H : L) + (L & H ? LANES : 0))...});
#endif
}

// Each lane from its neighbour across the bit H.
template <int H, int... L>
inline V across(V v, std::integer_sequence<int, L...>) {
#if defined(__clang__)
  return __builtin_shufflevector(v, v, (L ^ H)...);
#else
  return __builtin_shuffle(v, I{(L ^ H)...});
#endif
}

// Lane i of the result is the sum of the lanes of v[i]: a tree of halves.
template <int H = 1>
inline V add_lanes_of_each(const V *v) {
  using Lanes = std::make_integer_sequence<int, LANES>;
  if constexpr (2 * H > LANES) {
    return v[0];
  } else {
    V half[LANES / (2 * H)];
    UNROLL for (int i = 0; i < LANES / (2 * H); i++) {
      const V a = v[2 * i], b = v[2 * i + 1];
      half[i] = pick<H, false>(a, b, Lanes()) + pick<H, true>(a, b, Lanes());
    }
    return add_lanes_of_each<2 * H>(half);
  }
}

// The sum of all lanes, in each lane.
template <int H = 1>
inline V add_across(V v) {
  using Lanes = std::make_integer_sequence<int, LANES>;
  if constexpr (H < LANES) {
    return add_across<2 * H>(v + across<H>(v, Lanes()));
  } else {
    return v;
  }
}

// to[i] = the sum of the lanes of from[i], in an order that is the same for all.
inline void add_lanes(const V *from, float *to, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
    store_vector(to + i, add_lanes_of_each(from + i));
  if (count >= LANES && count - i > 4) {  // some of them again costs less than one by one
    store_vector(to + count - LANES, add_lanes_of_each(from + count - LANES));
    return;
  }
  for (; i < count; i++) to[i] = add_across(from[i])[0];
}

// Vectors of zeros on a cache line's boundary.
struct Aligned {
  V *data = nullptr;
  Aligned() = default;
  Aligned(const Aligned &) = delete;
  ~Aligned() { std::free(data); }
  void reset(int64_t vectors) {
    std::free(data);
    const size_t bytes = (size_t(vectors) * sizeof(V) + 64) / 64 * 64;
    data = static_cast<V *>(std::aligned_alloc(64, bytes));
    if (!data) throw std::bad_alloc();
    for (int64_t i = 0; i < vectors; i++) data[i] = V{};
  }
};

// Denormal numbers cost hundreds of cycles and mean nothing here: they become 0.
struct TinyIsZero {
#if defined(__SSE2__)
  const unsigned before = _mm_getcsr();
  TinyIsZero() { _mm_setcsr(before | 0x8040); }
  ~TinyIsZero() { _mm_setcsr(before); }
#endif
};

}  // namespace
