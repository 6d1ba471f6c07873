#define MPCC_VARIANT avx2
#include "kernels/block/generic.h"

namespace mpcc::kernels {

extern const BlockVariant kBlockAvx2;
const BlockVariant kBlockAvx2 = {
    "avx2", Isa::avx2, [](const CpuFeatures& cpu) { return cpu.supports(Isa::avx2); }, avx2::find};

}  // namespace mpcc::kernels
