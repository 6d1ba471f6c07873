// The kernels over a policy `Vec`, which includes this file after its definition, in an unnamed
// namespace: a few 64-bit lanes, of which products use the low 32 bits as signed words. What a
// logical shift leaves above them is never used.
//
// The arithmetic is that of mpcc/ir/harmonics.py, where every step is explained.

using V = Vec::V;

constexpr std::int64_t kCos[] = {-1324675872, 68093819, -1399910, 15167};
constexpr std::int64_t kSin[] = {1686629713, -693598665, 21392309, -314147, 2651};
constexpr int kFraction = 30;

// Cosines and sines of one block of lanes; entry k - 1 is harmonic k.
struct Turns {
  alignas(64) std::int64_t c[kMaxHarmonics][kHarmonicLanes];
  alignas(64) std::int64_t s[kMaxHarmonics][kHarmonicLanes];
};

template <int bits>
inline V rounded(V x) {
  return Vec::right(Vec::add(x, Vec::all(std::int64_t{1} << (bits - 1))), bits);
}

inline void base(V turn, V& c, V& s) {
  const V one = Vec::all(1);
  const V quadrant = Vec::right(Vec::add(turn, Vec::all(1 << 29)), 30);
  const V t = Vec::left(Vec::sub(turn, Vec::left(quadrant, 30)), 1);
  const V u = rounded<30>(Vec::mul(t, t));
  V inner = Vec::all(kCos[3]);
  for (int i = 2; i >= 0; --i) inner = Vec::add(rounded<30>(Vec::mul(u, inner)), Vec::all(kCos[i]));
  c = Vec::add(rounded<32>(Vec::mul(u, inner)), Vec::all(1 << kFraction));
  inner = Vec::all(kSin[4]);
  for (int i = 3; i >= 1; --i) inner = Vec::add(rounded<30>(Vec::mul(u, inner)), Vec::all(kSin[i]));
  inner = Vec::add(rounded<32>(Vec::mul(u, inner)), Vec::all(kSin[0]));
  s = rounded<31>(Vec::mul(t, inner));
  const V zero = Vec::all(0);
  const V swap = Vec::sub(zero, Vec::both(quadrant, one));
  const V down = Vec::sub(zero, Vec::both(Vec::right(Vec::add(quadrant, one), 1), one));
  const V left = Vec::sub(zero, Vec::both(Vec::right(quadrant, 1), one));
  const V change = Vec::both(Vec::differ(c, s), swap);
  c = Vec::sub(Vec::differ(Vec::differ(c, change), down), down);
  s = Vec::sub(Vec::differ(Vec::differ(s, change), left), left);
}

// Turns of `lanes` words, at most kHarmonicLanes; those beyond are turns of zero.
template <class X>
void make_turns(const HarmonicParams& p, const X* x, std::size_t lanes, Turns& z) {
  alignas(64) std::int64_t turn[kHarmonicLanes] = {};
  for (std::size_t i = 0; i < lanes; ++i) {
    const std::uint64_t y = ((x[i] * p.multiplier << p.left) + p.half) >> p.right;
    turn[i] = static_cast<std::int64_t>(y & 0xffffffffU);
  }
  for (std::size_t i = 0; i < kHarmonicLanes; i += Vec::kLanes) {
    V c;
    V s;
    base(Vec::load(turn + i), c, s);
    Vec::store(z.c[0] + i, c);
    Vec::store(z.s[0] + i, s);
  }
  for (std::size_t k = 2; k <= p.count; ++k) {
    const std::size_t a = k / 2 - 1;
    const std::size_t b = k - k / 2 - 1;
    for (std::size_t i = 0; i < kHarmonicLanes; i += Vec::kLanes) {
      const V ca = Vec::load(z.c[a] + i);
      const V sa = Vec::load(z.s[a] + i);
      const V cb = Vec::load(z.c[b] + i);
      const V sb = Vec::load(z.s[b] + i);
      const V c = Vec::sub(Vec::mul(ca, cb), Vec::mul(sa, sb));
      const V s = Vec::add(Vec::mul(ca, sb), Vec::mul(sa, cb));
      Vec::store(z.c[k - 1] + i, rounded<kFraction>(c));
      Vec::store(z.s[k - 1] + i, rounded<kFraction>(s));
    }
  }
}

template <class X, class W>
void harmonics(const HarmonicParams& p, const void* x_bytes, void* out_bytes, std::size_t lanes,
               std::size_t begin, std::size_t end) {
  const X* x = static_cast<const X*>(x_bytes);
  W* out = static_cast<W*>(out_bytes);
  const int drop = kFraction - p.precision;
  // Low words plus 2^31 are not negative, and 2^31 loses no bit by the shift.
  const V low = Vec::all(0xffffffff);
  const V top = Vec::all(std::int64_t{1} << 31);
  const V half = Vec::all(drop == 0 ? 0 : std::int64_t{1} << (drop - 1));
  const V moved = Vec::all((std::int64_t{1} << 31) >> drop);
  Turns z;
  for (std::size_t at = begin; at < end; at += kHarmonicLanes) {
    const std::size_t count = end - at < kHarmonicLanes ? end - at : kHarmonicLanes;
    make_turns(p, x + at, count, z);
    for (std::size_t row = 0; row < p.rows; ++row) {
      const std::size_t j = p.first + row;
      const std::int64_t* from = j % 2 == 0 ? z.c[j / 2] : z.s[j / 2];
      W* to = out + row * lanes + at;
      alignas(64) W rest[kHarmonicLanes];
      W* dest = count == kHarmonicLanes ? to : rest;
      for (std::size_t i = 0; i < kHarmonicLanes; i += Vec::kLanes) {
        const V word = Vec::differ(Vec::both(Vec::load(from + i), low), top);
        Vec::store(dest + i, Vec::sub(Vec::right(Vec::add(word, half), drop), moved));
      }
      if (dest == rest)
        for (std::size_t i = 0; i < count; ++i) to[i] = rest[i];
    }
  }
}

// m times the signed 32-bit word in v, added to sum, modulo 2^64. With m = low + 2^32 high for a
// signed low, products of two signed 32-bit words do.
inline void multiply(V m, V v, V& sum, V& high_sum) {
  const V high = Vec::right(Vec::add(m, Vec::all(std::int64_t{1} << 31)), 32);
  sum = Vec::add(sum, Vec::mul(m, v));
  high_sum = Vec::add(high_sum, Vec::mul(high, v));
}

template <class X, class W>
void fourier(const HarmonicParams& p, const void* x_bytes, const void* const* rows, void* out_bytes,
             std::size_t begin, std::size_t end) {
  const X* x = static_cast<const X*>(x_bytes);
  W* out = static_cast<W*>(out_bytes);
  // 2^62 makes the sums of products positive, which are below 2^61.5.
  const V bias = Vec::all((std::int64_t{1} << 62) + (std::int64_t{1} << (p.shift - 1)));
  const V moved = Vec::all((std::int64_t{1} << 62) >> p.shift);
  Turns z;
  alignas(64) std::int64_t sums[kHarmonicLanes];
  alignas(64) std::int64_t high_sums[kHarmonicLanes];
  alignas(64) W rest[2][kHarmonicLanes] = {};
  for (std::size_t at = begin; at < end; at += kHarmonicLanes) {
    const std::size_t count = end - at < kHarmonicLanes ? end - at : kHarmonicLanes;
    make_turns(p, x + at, count, z);
    for (std::size_t i = 0; i < kHarmonicLanes; ++i) sums[i] = high_sums[i] = 0;
    for (std::size_t k = 0; k < p.count; ++k) {
      const W* first = static_cast<const W*>(rows[2 * k]) + at;
      const W* second = static_cast<const W*>(rows[2 * k + 1]) + at;
      if (count != kHarmonicLanes) {
        for (std::size_t i = 0; i < count; ++i) {
          rest[0][i] = first[i];
          rest[1][i] = second[i];
        }
        first = rest[0];
        second = rest[1];
      }
      const V a = Vec::all(p.cos[k]);
      const V b = Vec::all(p.sin[k]);
      for (std::size_t i = 0; i < kHarmonicLanes; i += Vec::kLanes) {
        const V c = Vec::load(z.c[k] + i);
        const V s = Vec::load(z.s[k] + i);
        const V u = Vec::add(Vec::mul(a, c), Vec::mul(b, s));
        const V w = Vec::sub(Vec::mul(b, c), Vec::mul(a, s));
        const V v1 = Vec::sub(Vec::right(Vec::add(u, bias), p.shift), moved);
        const V v2 = Vec::sub(Vec::right(Vec::add(w, bias), p.shift), moved);
        V sum = Vec::load(sums + i);
        if constexpr (sizeof(W) == 8) {
          V high = Vec::load(high_sums + i);
          multiply(Vec::load(first + i), v1, sum, high);
          multiply(Vec::load(second + i), v2, sum, high);
          Vec::store(high_sums + i, high);
        } else {
          sum = Vec::add(sum, Vec::mul(Vec::load(first + i), v1));
          sum = Vec::add(sum, Vec::mul(Vec::load(second + i), v2));
        }
        Vec::store(sums + i, sum);
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      const auto high = static_cast<std::uint64_t>(high_sums[i]) << 32;
      out[at + i] = static_cast<W>(static_cast<std::uint64_t>(sums[i]) + high);
    }
  }
}

constexpr HarmonicVariant make_variant(std::string_view name, Isa isa,
                                       bool (*supported)(const CpuFeatures&)) {
  using Narrow = std::uint32_t;
  using Wide = std::uint64_t;
  return {name,
          isa,
          supported,
          {{harmonics<Narrow, Narrow>, harmonics<Narrow, Wide>},
           {harmonics<Wide, Narrow>, harmonics<Wide, Wide>}},
          {{fourier<Narrow, Narrow>, fourier<Narrow, Wide>},
           {fourier<Wide, Narrow>, fourier<Wide, Wide>}}};
}
