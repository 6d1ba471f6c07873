// The block kernels, compiled once per variant: the including file defines MPCC_VARIANT, a
// namespace name, so that no symbol is shared between files with different instruction-set flags.
// For the same reason nothing here instantiates a standard template that could be emitted out of
// line.
#include <cmath>
#include <cstring>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "base/error.h"
#include "kernels/block/block.h"
#ifdef __AVX2__
#include "kernels/block/planes_avx2.h"
#endif

#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 unrolls the tree of carry_tables past the 6 levels that a block can have and warns about
// the levels that it has invented.
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif

namespace mpcc::kernels::MPCC_VARIANT {
namespace {

using Byte = std::uint8_t;
using Half = Byte __attribute__((vector_size(16)));
#ifdef __AVX2__
using Full = Byte __attribute__((vector_size(32)));
#else
using Full = Half;
#endif

// As many words as fit a vector.
template <class W>
struct Vector {
  typedef W Type __attribute__((vector_size(sizeof(Full))));
};

template <class T>
inline T load(const void* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
inline void store(void* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

inline const Byte* in_bytes(const BlockArgs& a, std::size_t i) {
  return reinterpret_cast<const Byte*>(a.in[i]);
}
inline Byte* out_bytes(const BlockArgs& a) { return reinterpret_cast<Byte*>(a.out); }

// Calls f.template operator()<T>(offset) over the bytes of a plane, in the widest pieces that fit.
template <class F>
inline void for_strips(std::size_t bytes, F&& f) {
  std::size_t o = 0;
  for (; o + sizeof(Full) <= bytes; o += sizeof(Full)) f.template operator()<Full>(o);
  if (sizeof(Half) < sizeof(Full) && o + sizeof(Half) <= bytes) {
    f.template operator()<Half>(o);
    o += sizeof(Half);
  }
  if (o + 8 <= bytes) {
    f.template operator()<std::uint64_t>(o);
    o += 8;
  }
  for (; o < bytes; ++o) f.template operator()<Byte>(o);
}

// Calls f.template operator()<T>(i) for the words of a range, T a vector of words that begins at
// word i, or one word. Left to itself the compiler does one word at a time: it cannot know that
// what a kernel writes is not its arguments.
template <class W, class F>
inline void for_words(std::size_t count, F&& f) {
  using V = typename Vector<W>::Type;
  constexpr std::size_t n = sizeof(V) / sizeof(W);
  std::size_t i = 0;
  for (; i + 2 * n <= count; i += 2 * n) {
    f.template operator()<V>(i);
    f.template operator()<V>(i + n);
  }
  for (; i < count; ++i) f.template operator()<W>(i);
}

// Calls f(block, bytes per plane, lanes) for the 512-lane blocks of the range. The planes of block
// b of a value with w planes begin at byte b * 64 * w of the range.
template <class F>
inline void for_blocks(std::size_t count, F&& f) {
  for (std::size_t b = 0; b * kBlockLanes < count; ++b) {
    const std::size_t rest = count - b * kBlockLanes;
    const std::size_t lanes = rest < kBlockLanes ? rest : kBlockLanes;
    f(b, (lanes + 7) / 8, lanes);
  }
}

// --- ring ---------------------------------------------------------------------------------------

struct AddOp {
  template <class T>
  static T apply(T a, T b) {
    return a + b;
  }
};
struct SubOp {
  template <class T>
  static T apply(T a, T b) {
    return a - b;
  }
};

template <class W, class O>
void binary(const BlockArgs& a) {
  const W* x = reinterpret_cast<const W*>(a.in[0]);
  const W* y = reinterpret_cast<const W*>(a.in[1]);
  W* z = reinterpret_cast<W*>(a.out);
  for_words<W>(a.count, [=]<class T>(std::size_t i) {
    store<T>(z + i, O::template apply<T>(load<T>(x + i), load<T>(y + i)));
  });
}

// Sum over operand pairs of a product, in one pass for one or two pairs.
template <class W>
void products(const BlockArgs& a) {
  const auto word = [&](std::size_t i) { return reinterpret_cast<const W*>(a.in[i]); };
  const std::size_t operands = a.params->in_planes.size();
  const W* x0 = word(0);
  const W* y0 = word(1);
  W* z = reinterpret_cast<W*>(a.out);
  if (operands == 2) {
    for_words<W>(a.count, [=]<class T>(std::size_t i) {
      store<T>(z + i, load<T>(x0 + i) * load<T>(y0 + i));
    });
    return;
  }
  const W* x1 = word(2);
  const W* y1 = word(3);
  for_words<W>(a.count, [=]<class T>(std::size_t i) {
    store<T>(z + i, load<T>(x0 + i) * load<T>(y0 + i) + load<T>(x1 + i) * load<T>(y1 + i));
  });
  for (std::size_t p = 4; p < operands; p += 2) {
    const W* x = word(p);
    const W* y = word(p + 1);
    for_words<W>(a.count, [=]<class T>(std::size_t i) {
      store<T>(z + i, load<T>(z + i) + load<T>(x + i) * load<T>(y + i));
    });
  }
}

// Of a word or a vector of them, with the op's constant and its shift.
struct NegOp {
  template <class T, class W>
  static T apply(T x, W, W) {
    return T{} - x;
  }
};
struct AddConstOp {
  template <class T, class W>
  static T apply(T x, W c, W) {
    return x + c;
  }
};
struct MulConstOp {
  template <class T, class W>
  static T apply(T x, W c, W) {
    return x * c;
  }
};
struct ShiftLeftOp {
  template <class T, class W>
  static T apply(T x, W, W s) {
    return x << s;
  }
};
struct ShiftRightOp {
  template <class T, class W>
  static T apply(T x, W, W s) {
    return x >> s;
  }
};
struct LowBitsOp {
  template <class T, class W>
  static T apply(T x, W c, W) {
    return x & c;
  }
};

template <class W, class O>
void unary(const BlockArgs& a) {
  const W* x = reinterpret_cast<const W*>(a.in[0]);
  W* z = reinterpret_cast<W*>(a.out);
  const W c = static_cast<W>(a.params->constant);
  const W s = static_cast<W>(a.params->amount);
  for_words<W>(a.count, [=]<class T>(std::size_t i) {
    store<T>(z + i, O::template apply<T, W>(load<T>(x + i), c, s));
  });
}

// The low bits of a word, or zeros above it.
template <class W, class To>
void cast_to(const BlockArgs& a) {
  const W* __restrict x = reinterpret_cast<const W*>(a.in[0]);
  To* __restrict z = reinterpret_cast<To*>(a.out);
  const std::size_t count = a.count;
  for (std::size_t i = 0; i < count; ++i) z[i] = static_cast<To>(x[i]);
}

template <class W>
void cast(const BlockArgs& a) {
  if (a.params->amount == 32)
    cast_to<W, std::uint32_t>(a);
  else
    cast_to<W, std::uint64_t>(a);
}

// --- owners -------------------------------------------------------------------------------------

template <class W>
void encode(const BlockArgs& a) {
  const float* x = reinterpret_cast<const float*>(a.in[0]);
  W* z = reinterpret_cast<W*>(a.out);
  const double scale = std::ldexp(1.0, a.params->amount);
  for (std::size_t i = 0; i < a.count; ++i) {
    const double v = static_cast<double>(x[i]);
    const double r = std::rint(v * scale);
    if (!(v >= a.params->lo && v <= a.params->hi) || !(std::fabs(r) < 0x1p63))
      throw Error("E-input-range", "an input value is outside the range that the program accepts");
    z[i] = static_cast<W>(static_cast<std::uint64_t>(static_cast<std::int64_t>(r)));
  }
}

template <class W>
void decode(const BlockArgs& a) {
  const W* x = reinterpret_cast<const W*>(a.in[0]);
  float* z = reinterpret_cast<float*>(a.out);
  const double scale = std::ldexp(1.0, -a.params->amount);
  for (std::size_t i = 0; i < a.count; ++i) {
    const auto v = sizeof(W) == 8 ? static_cast<std::int64_t>(x[i])
                                  : static_cast<std::int64_t>(static_cast<std::int32_t>(x[i]));
    z[i] = static_cast<float>(static_cast<double>(v) * scale);
  }
}

// --- draws --------------------------------------------------------------------------------------

// A draw's buffer is the stream from block 0; 512 lanes are a multiple of 16 bytes in every type.
template <class W>
void draw_ring(const BlockArgs& a) {
  a.key->fill(a.params->stream, a.begin * sizeof(W) / prg::kBlockBytes,
              {a.out, a.count * sizeof(W)});
}

void draw_bits(const BlockArgs& a) {
  const std::size_t planes = a.params->out_planes;
  a.key->fill(a.params->stream, a.begin / 8 * planes / prg::kBlockBytes,
              {a.out, bits_bytes(a.count, planes)});
}

// --- ring and bits ------------------------------------------------------------------------------

// mask(bit, word) for every lane: one plane beside a ring tensor.
struct MaskOp {
  template <class W>
  static W apply(W mask, W x) {
    return mask & x;
  }
};
struct NegateOp {
  template <class W>
  static W apply(W mask, W x) {
    return (x ^ mask) - mask;
  }
};

template <class W, class O>
void by_bit_tail(const Byte* bits, const W* x, W* z, std::size_t from, std::size_t count) {
  for (std::size_t i = from; i < count; ++i)
    z[i] = O::apply(static_cast<W>(W{0} - ((bits[i / 8] >> (i % 8)) & 1U)), x[i]);
}

// The plane of a one-plane value is contiguous over blocks: 64 bytes per full block.
template <class W, class O>
void by_bit(const BlockArgs& a) {
  const Byte* bits = in_bytes(a, 0);
  const W* x = reinterpret_cast<const W*>(a.in[1]);
  W* z = reinterpret_cast<W*>(a.out);
  std::size_t i = 0;
#ifdef __AVX2__
  if constexpr (sizeof(W) == 8) {
    const __m256i low = _mm256_setr_epi64x(1, 2, 4, 8);
    const __m256i high = _mm256_setr_epi64x(16, 32, 64, 128);
    for (; i + 8 <= a.count; i += 8) {
      const __m256i b = _mm256_set1_epi64x(bits[i / 8]);
      const __m256i m0 = _mm256_cmpeq_epi64(_mm256_and_si256(b, low), low);
      const __m256i m1 = _mm256_cmpeq_epi64(_mm256_and_si256(b, high), high);
      const __m256i v0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
      const __m256i v1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 4));
      __m256i r0;
      __m256i r1;
      if constexpr (__is_same(O, MaskOp)) {
        r0 = _mm256_and_si256(m0, v0);
        r1 = _mm256_and_si256(m1, v1);
      } else {
        r0 = _mm256_sub_epi64(_mm256_xor_si256(v0, m0), m0);
        r1 = _mm256_sub_epi64(_mm256_xor_si256(v1, m1), m1);
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(z + i), r0);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(z + i + 4), r1);
    }
  } else {
    const __m256i one_each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (; i + 8 <= a.count; i += 8) {
      const __m256i b = _mm256_set1_epi32(bits[i / 8]);
      const __m256i m = _mm256_cmpeq_epi32(_mm256_and_si256(b, one_each), one_each);
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
      __m256i r;
      if constexpr (__is_same(O, MaskOp))
        r = _mm256_and_si256(m, v);
      else
        r = _mm256_sub_epi32(_mm256_xor_si256(v, m), m);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(z + i), r);
    }
  }
#endif
  by_bit_tail<W, O>(bits, x, z, i, a.count);
}

template <class W>
void bit_slice(const BlockArgs& a) {
  const W* x = reinterpret_cast<const W*>(a.in[0]);
  const std::size_t planes = a.params->out_planes;
  const int shift = a.params->amount;
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t lanes) {
    const W* xs = x + b * kBlockLanes;
    Byte* out = out_bytes(a) + b * kPlaneBytes * planes;
    std::size_t i = 0;
#ifdef __AVX2__
    const int columns = static_cast<int>((planes + 7) / 8);
    for (; i + 32 <= lanes; i += 32) {
      __m256i column[8];
      byte_columns(xs + i, shift, columns, column);
      for (int k = 0; k < columns; ++k) {
        __m256i c = column[k];
        const int top = static_cast<int>(planes) - 8 * k < 8 ? static_cast<int>(planes) - 8 * k : 8;
        for (int p = 7; p >= 0; --p) {
          if (p < top)
            store(out + (static_cast<std::size_t>(8 * k + p) * bytes + i / 8),
                  static_cast<std::uint32_t>(_mm256_movemask_epi8(c)));
          c = _mm256_add_epi8(c, c);
        }
      }
    }
#endif
    for (; i < lanes; i += 8) {
      const std::size_t n = lanes - i < 8 ? lanes - i : 8;
      for (std::size_t p = 0; p < planes; ++p) {
        unsigned v = 0;
        for (std::size_t l = 0; l < n; ++l)
          v |= static_cast<unsigned>((xs[i + l] >> (static_cast<std::size_t>(shift) + p)) & 1U)
               << l;
        out[p * bytes + i / 8] = static_cast<Byte>(v);
      }
    }
  });
}

template <class W>
void from_bits(const BlockArgs& a) {
  W* z = reinterpret_cast<W*>(a.out);
  const std::size_t planes = a.params->in_planes[0];
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t lanes) {
    const Byte* in = in_bytes(a, 0) + b * kPlaneBytes * planes;
    W* zs = z + b * kBlockLanes;
    std::size_t i = 0;
#ifdef __AVX2__
    // With fewer planes it is not worth it.
    constexpr std::size_t kLeastPlanes = 4;
    for (; planes >= kLeastPlanes && i + 256 <= lanes; i += 256) {
      __m256i byte[sizeof(W)][8];
      for (std::size_t k = 0; k < sizeof(W); ++k)
        if (8 * k < planes)
          bytes_of_planes(in + 8 * k * bytes + i / 8, bytes, planes - 8 * k, byte[k]);
      for (std::size_t m = 0; m < 8; ++m) {
        __m256i column[sizeof(W)];
        for (std::size_t k = 0; k < sizeof(W); ++k)
          column[k] = 8 * k < planes ? byte[k][m] : _mm256_setzero_si256();
        words_of_columns(column, zs + i + 16 * m);
      }
    }
    constexpr int kGroups = static_cast<int>(sizeof(W));  // vectors of 32 words
    constexpr std::size_t kWords = 32 / sizeof(W);        // words of a vector
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                            2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i select = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201ULL));
    for (; i + 32 <= lanes; i += 32) {
      __m256i words[kGroups];
      for (auto& w : words) w = _mm256_setzero_si256();
      for (std::size_t k = 0; 8 * k < planes; ++k) {
        __m256i column = _mm256_setzero_si256();
        for (std::size_t p = 8 * k; p < planes && p < 8 * k + 8; ++p) {
          const auto m = load<std::uint32_t>(in + p * bytes + i / 8);
          const __m256i bits = _mm256_and_si256(
              _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(m)), spread), select);
          const __m256i set = _mm256_cmpeq_epi8(bits, select);
          column = _mm256_or_si256(
              column, _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(1U << (p % 8)))));
        }
        alignas(32) Byte flat[32];
        _mm256_store_si256(reinterpret_cast<__m256i*>(flat), column);
        const __m128i count = _mm_cvtsi32_si128(static_cast<int>(8 * k));
        for (int g = 0; g < kGroups; ++g) {
          const Byte* from = flat + kWords * static_cast<std::size_t>(g);
          __m256i v;
          if constexpr (sizeof(W) == 8)
            v = _mm256_sll_epi64(_mm256_cvtepu8_epi64(_mm_cvtsi32_si128(
                                     static_cast<int>(load<std::uint32_t>(from)))),
                                 count);
          else
            v = _mm256_sll_epi32(
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))),
                count);
          words[g] = _mm256_or_si256(words[g], v);
        }
      }
      for (int g = 0; g < kGroups; ++g)
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(zs + i + kWords * static_cast<std::size_t>(g)), words[g]);
    }
#endif
    for (; i < lanes; ++i) {
      W w = 0;
      for (std::size_t p = 0; p < planes; ++p)
        w |= static_cast<W>(static_cast<W>((in[p * bytes + i / 8] >> (i % 8)) & 1U) << p);
      zs[i] = w;
    }
  });
}

// --- bits ---------------------------------------------------------------------------------------

struct XorOp {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};
struct AndOp {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};

template <class O>
void bits_binary(const BlockArgs& a) {
  const Byte* x = in_bytes(a, 0);
  const Byte* y = in_bytes(a, 1);
  Byte* z = out_bytes(a);
  for_strips(bits_bytes(a.count, a.params->out_planes), [&]<class T>(std::size_t o) {
    store<T>(z + o, O::template apply<T>(load<T>(x + o), load<T>(y + o)));
  });
}

void bits_not(const BlockArgs& a) {
  const Byte* x = in_bytes(a, 0);
  Byte* z = out_bytes(a);
  for_strips(bits_bytes(a.count, a.params->out_planes),
             [&]<class T>(std::size_t o) { store<T>(z + o, static_cast<T>(~load<T>(x + o))); });
}

// Most are of whole blocks: 64 bytes or a few times that, too little for a call.
inline void copy_planes(Byte* to, const Byte* from, std::size_t bytes) {
  if (bytes % kPlaneBytes != 0) {
    std::memcpy(to, from, bytes);
    return;
  }
  for (std::size_t o = 0; o < bytes; o += sizeof(Full)) store(to + o, load<Full>(from + o));
}

void planes(const BlockArgs& a) {
  const std::size_t from = a.params->in_planes[0];
  const std::size_t to = a.params->out_planes;
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t) {
    const Byte* in = in_bytes(a, 0) + b * kPlaneBytes * from;
    Byte* out = out_bytes(a) + b * kPlaneBytes * to;
    for (std::size_t p = 0; p < to; ++p)
      copy_planes(out + p * bytes, in + a.params->program[p] * bytes, bytes);
  });
}

void join(const BlockArgs& a) {
  const std::size_t to = a.params->out_planes;
  const std::size_t operands = a.params->in_planes.size();
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t) {
    Byte* out = out_bytes(a) + b * kPlaneBytes * to;
    for (std::size_t i = 0; i < operands; ++i) {
      const std::size_t w = a.params->in_planes[i];
      copy_planes(out, in_bytes(a, i) + b * kPlaneBytes * w, w * bytes);
      out += w * bytes;
    }
  });
}

// Carry of (j xor rho) + beta for all j of a block, as a binary tree over the bits of j, lowest
// first: with a = rho_t or its complement, carry' = a beta xor (a xor beta) carry.
void carry_tables(const BlockArgs& a) {
  const auto& p = *a.params;
  const std::size_t index = p.in_planes[0];
  const std::size_t blocks = p.program.size();
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t) {
    const Byte* beta = in_bytes(a, 0) + b * kPlaneBytes * index;
    const Byte* rho = in_bytes(a, 1) + b * kPlaneBytes * index;
    Byte* out = out_bytes(a) + b * kPlaneBytes * p.out_planes;
    for_strips(bytes, [&]<class T>(std::size_t o) {
      std::size_t low = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < blocks; ++i) {
        const std::size_t w = p.program[i];
        T generate[64];
        T propagate[64];
        generate[0] = T{};
        propagate[0] = static_cast<T>(~T{});
        std::size_t n = 1;
        for (std::size_t t = 0; t < w; ++t, n *= 2) {
          const T be = load<T>(beta + (low + t) * bytes + o);
          const T r = load<T>(rho + (low + t) * bytes + o);
          const T both = static_cast<T>(r & be);
          const T one = static_cast<T>(r ^ be);
          const T other = static_cast<T>(be ^ both);
          for (std::size_t j = 0; j < n; ++j) {
            const T g = generate[j];
            const T e = propagate[j];
            generate[j] = static_cast<T>(both ^ (one & g));
            generate[j + n] = static_cast<T>(other ^ (g ^ (one & g)));
            propagate[j] = static_cast<T>(e & one);
            propagate[j + n] = static_cast<T>(e ^ (e & one));
          }
        }
        for (std::size_t j = 0; j < n; ++j) store<T>(out + (at + j) * bytes + o, generate[j]);
        at += n;
        if (i != 0) {
          for (std::size_t j = 0; j < n; ++j) store<T>(out + (at + j) * bytes + o, propagate[j]);
          at += n;
        }
        low += w;
      }
    });
  });
}

void lookup(const BlockArgs& a) {
  const auto& p = *a.params;
  const std::size_t tables = p.in_planes[0];
  const std::size_t index = p.in_planes[1];
  const std::size_t blocks = p.program.size();
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t) {
    const Byte* table = in_bytes(a, 0) + b * kPlaneBytes * tables;
    const Byte* at_index = in_bytes(a, 1) + b * kPlaneBytes * index;
    Byte* out = out_bytes(a) + b * kPlaneBytes * p.out_planes;
    for_strips(bytes, [&]<class T>(std::size_t o) {
      std::size_t low = 0;
      std::size_t at = 0;
      std::size_t to = 0;
      for (std::size_t i = 0; i < blocks; ++i) {
        const std::size_t w = p.program[i];
        for (int copy = 0; copy < (i == 0 ? 1 : 2); ++copy) {
          T entry[32];
          std::size_t n = std::size_t{1} << (w - 1);
          const T first = load<T>(at_index + low * bytes + o);
          for (std::size_t j = 0; j < n; ++j) {
            const T even = load<T>(table + (at + 2 * j) * bytes + o);
            const T odd = load<T>(table + (at + 2 * j + 1) * bytes + o);
            entry[j] = static_cast<T>(even ^ (first & (even ^ odd)));
          }
          for (std::size_t t = 1; t < w; ++t) {
            const T bit = load<T>(at_index + (low + t) * bytes + o);
            n /= 2;
            for (std::size_t j = 0; j < n; ++j)
              entry[j] = static_cast<T>(entry[2 * j] ^ (bit & (entry[2 * j] ^ entry[2 * j + 1])));
          }
          store<T>(out + to * bytes + o, entry[0]);
          ++to;
          at += std::size_t{1} << w;
        }
        low += w;
      }
    });
  });
}

void anf(const BlockArgs& a) {
  const auto& p = *a.params;
  const std::size_t from = p.in_planes[0];
  for_blocks(a.count, [&](std::size_t b, std::size_t bytes, std::size_t) {
    const Byte* in = in_bytes(a, 0) + b * kPlaneBytes * from;
    Byte* out = out_bytes(a) + b * kPlaneBytes * p.out_planes;
    for_strips(bytes, [&]<class T>(std::size_t o) {
      const std::uint32_t* code = p.program.data();
      for (std::size_t q = 0; q < p.out_planes; ++q) {
        T sum{};
        for (std::uint32_t monomials = *code++; monomials > 0; --monomials) {
          std::uint32_t factors = *code++;
          T product = load<T>(in + *code++ * bytes + o);
          for (; factors > 1; --factors)
            product = static_cast<T>(product & load<T>(in + *code++ * bytes + o));
          sum = static_cast<T>(sum ^ product);
        }
        store<T>(out + q * bytes + o, sum);
      }
    });
  });
}

template <class W>
BlockKernel find_word(OpCode code) {
  switch (code) {
    case OpCode::Encode:
      return encode<W>;
    case OpCode::Decode:
      return decode<W>;
    case OpCode::DrawRing:
      return draw_ring<W>;
    case OpCode::DrawBits:
      return draw_bits;
    case OpCode::Add:
      return binary<W, AddOp>;
    case OpCode::Sub:
      return binary<W, SubOp>;
    case OpCode::Mul:
      return products<W>;
    case OpCode::Neg:
      return unary<W, NegOp>;
    case OpCode::AddConst:
      return unary<W, AddConstOp>;
    case OpCode::MulConst:
      return unary<W, MulConstOp>;
    case OpCode::ShiftLeft:
      return unary<W, ShiftLeftOp>;
    case OpCode::ShiftRight:
      return unary<W, ShiftRightOp>;
    case OpCode::LowBits:
      return unary<W, LowBitsOp>;
    case OpCode::Cast:
      return cast<W>;
    case OpCode::MaskBy:
      return by_bit<W, MaskOp>;
    case OpCode::NegateIf:
      return by_bit<W, NegateOp>;
    case OpCode::FromBits:
      return from_bits<W>;
    case OpCode::BitSlice:
      return bit_slice<W>;
    case OpCode::Xor:
      return bits_binary<XorOp>;
    case OpCode::And:
      return bits_binary<AndOp>;
    case OpCode::Not:
      return bits_not;
    case OpCode::Planes:
      return planes;
    case OpCode::Join:
      return join;
    case OpCode::CarryTables:
      return carry_tables;
    case OpCode::Lookup:
      return lookup;
    case OpCode::Anf:
      return anf;
    default:
      return nullptr;
  }
}

BlockKernel find(OpCode code, std::size_t word) {
  return word == 4 ? find_word<std::uint32_t>(code) : find_word<std::uint64_t>(code);
}

}  // namespace
}  // namespace mpcc::kernels::MPCC_VARIANT
