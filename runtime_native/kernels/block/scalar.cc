#define MPCC_VARIANT scalar
#include "kernels/block/generic.h"

namespace mpcc::kernels {

extern const BlockVariant kBlockScalar;
const BlockVariant kBlockScalar = {"scalar", Isa::scalar, [](const CpuFeatures&) { return true; },
                                   scalar::find};

}  // namespace mpcc::kernels
