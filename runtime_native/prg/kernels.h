// Internal: the variants and what those with AES instructions share.
#pragma once

#include "prg/aes.h"

namespace mpcc::prg::internal {

#define MPCC_AES_KERNEL(name) extern const AesKernel kernel_##name;
#include "prg/kernels.inc"
#undef MPCC_AES_KERNEL

// FIPS 197 section 5.2. Needs AES-NI.
void expand_key_aesni(const std::uint8_t* key, std::uint8_t* schedule);
// One block. Needs AES-NI. in and out may be the same.
void encrypt_block_aesni(const std::uint8_t* schedule, const std::uint8_t* in, std::uint8_t* out);

}  // namespace mpcc::prg::internal
