#include "kernels/harmonics/variant.h"

namespace mpcc::kernels {
namespace {

struct Vec {
  using V = std::int64_t;
  static constexpr std::size_t kLanes = 1;
  static V all(std::int64_t x) { return x; }
  template <class W>
  static V load(const W* p) {
    return static_cast<V>(*p);
  }
  template <class W>
  static void store(W* p, V x) {
    *p = static_cast<W>(x);
  }
  // Sums wrap.
  static V add(V a, V b) { return static_cast<V>(word(a) + word(b)); }
  static V sub(V a, V b) { return static_cast<V>(word(a) - word(b)); }
  static V mul(V a, V b) {
    return std::int64_t{static_cast<std::int32_t>(a)} * static_cast<std::int32_t>(b);
  }
  static V right(V a, int bits) { return static_cast<V>(word(a) >> bits); }
  static V left(V a, int bits) { return static_cast<V>(word(a) << bits); }
  static V both(V a, V b) { return a & b; }
  static V differ(V a, V b) { return a ^ b; }

 private:
  static std::uint64_t word(V a) { return static_cast<std::uint64_t>(a); }
};

#include "kernels/harmonics/generic.h"

}  // namespace

extern const HarmonicVariant kHarmonicScalar;
const HarmonicVariant kHarmonicScalar =
    make_variant("scalar", Isa::scalar, [](const CpuFeatures&) { return true; });

}  // namespace mpcc::kernels
