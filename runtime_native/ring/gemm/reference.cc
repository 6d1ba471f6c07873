#include "ring/gemm/gemm.h"

namespace mpcc::ring {

template <RingWord W>
void gemm_reference(std::span<const GemmPair<W>> pairs, Matrix<W> c, bool accumulate) {
  for (std::size_t i = 0; i < c.rows; ++i)
    for (std::size_t j = 0; j < c.cols; ++j) {
      W sum = accumulate ? c.data[i * c.ld + j] : W{0};
      for (const GemmPair<W>& p : pairs)
        for (std::size_t k = 0; k < p.a.cols; ++k)
          sum += p.a.data[i * p.a.ld + k] * p.b.data[k * p.b.ld + j];
      c.data[i * c.ld + j] = sum;
    }
}

template void gemm_reference(std::span<const GemmPair<std::uint32_t>>, Matrix<std::uint32_t>, bool);
template void gemm_reference(std::span<const GemmPair<std::uint64_t>>, Matrix<std::uint64_t>, bool);

}  // namespace mpcc::ring
