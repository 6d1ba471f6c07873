// Portable C++, for CPUs without AVX2 and as the third opinion in tests.
#include "ring/gemm/make_kernel.h"
#include "ring/gemm/plain_vec.h"

namespace mpcc::ring::internal {

constexpr GemmKernel<std::uint64_t> scalar_u64 =
    make_vector_kernel<PlainVec<std::uint64_t, 1>, 3, 2>("scalar", Isa::scalar);
constexpr GemmKernel<std::uint32_t> scalar_u32 =
    make_vector_kernel<PlainVec<std::uint32_t, 1>, 3, 2>("scalar", Isa::scalar);

}  // namespace mpcc::ring::internal
