#include "ring/gemm/avx512_vec.h"

namespace mpcc::ring::internal {

// 8 x 2 accumulators, 2 x 2 right vectors and 2 broadcasts of 32 registers; the rest for sums.
constexpr GemmKernel<std::uint64_t> avx512_u64 =
    make_vector_kernel<Avx512U64, 8, 2>("avx512", Isa::avx512);
constexpr GemmKernel<std::uint32_t> avx512_u32 =
    make_vector_kernel<Avx512U32, 8, 2>("avx512", Isa::avx512);

}  // namespace mpcc::ring::internal
