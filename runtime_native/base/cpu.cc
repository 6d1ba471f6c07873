#include "base/cpu.h"

#include <array>
#include <cstdint>
#include <cstdlib>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mpcc {
namespace {

constexpr std::array<Isa, 4> kIsas = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::amx};

#if defined(__x86_64__)
std::uint64_t read_xcr0() noexcept {
  std::uint32_t lo = 0;
  std::uint32_t hi = 0;
  __asm__ __volatile__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<std::uint64_t>(hi) << 32) | lo;
}

bool request_tile_permission() noexcept {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureXtiledata = 18;
  return ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtiledata) == 0;
}

constexpr bool has(std::uint32_t reg, int bit) noexcept { return ((reg >> bit) & 1U) != 0; }
#endif

}  // namespace

std::span<const Isa> all_isas() noexcept { return kIsas; }

std::string_view isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::amx:
      return "amx";
  }
  return "unknown";
}

Isa parse_isa(std::string_view name) {
  for (Isa isa : kIsas)
    if (isa_name(isa) == name) return isa;
  throw Error(
      "E-isa-unknown",
      "unknown instruction set '" + std::string(name) + "'; use scalar, avx2, avx512 or amx",
      "MPCC_ISA");
}

bool CpuFeatures::supports(Isa isa) const noexcept {
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
      return avx2 && bmi2;
    case Isa::avx512:
      return avx512 && avx2 && bmi2;
    case Isa::amx:
      return amx_int8 && avx512 && avx2 && bmi2;
  }
  return false;
}

std::string CpuFeatures::describe() const {
  std::string text;
  const auto add = [&text](bool on, const char* name) {
    if (!on) return;
    if (!text.empty()) text += ' ';
    text += name;
  };
  add(aesni, "aesni");
  add(vaes, "vaes");
  add(avx2, "avx2");
  add(bmi2, "bmi2");
  add(avx512, "avx512");
  add(amx_int8, "amx-int8");
  return text.empty() ? "none" : text;
}

CpuFeatures detect_cpu_features() noexcept {
  CpuFeatures f;
#if defined(__x86_64__)
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(1, 0, &a, &b, &c, &d) == 0) return f;
  f.aesni = has(c, 25) && has(c, 19);  // AES, SSE4.1
  const bool osxsave = has(c, 27);
  const bool avx = has(c, 28);
  const std::uint64_t xcr0 = osxsave ? read_xcr0() : 0;
  const bool ymm = avx && (xcr0 & 0x6) == 0x6;
  const bool zmm = ymm && (xcr0 & 0xe0) == 0xe0;
  const bool tiles = (xcr0 & 0x60000) == 0x60000;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return f;
  f.avx2 = ymm && has(b, 5);
  f.bmi2 = has(b, 8);
  f.vaes = ymm && has(c, 9);
  f.avx512 = zmm && has(b, 16) && has(b, 17) && has(b, 30) && has(b, 31);
  f.amx_int8 = tiles && has(d, 24) && has(d, 25) && request_tile_permission();
#endif
  return f;
}

const CpuFeatures& cpu_features() noexcept {
  static const CpuFeatures features = detect_cpu_features();
  return features;
}

Isa choose_isa(const CpuFeatures& features, std::string_view forced) {
  if (!forced.empty()) {
    const Isa isa = parse_isa(forced);
    if (!features.supports(isa))
      throw Error("E-isa-unsupported",
                  "MPCC_ISA=" + std::string(forced) +
                      " is forced, but this machine has only: " + features.describe(),
                  "MPCC_ISA");
    return isa;
  }
  Isa best = Isa::scalar;
  for (Isa isa : kIsas)
    if (features.supports(isa)) best = isa;
  return best;
}

std::optional<Isa> forced_isa() {
  const char* forced = std::getenv("MPCC_ISA");
  if (forced == nullptr || *forced == '\0') return std::nullopt;
  return choose_isa(cpu_features(), forced);
}

Isa chosen_isa() {
  const auto forced = forced_isa();
  return forced ? *forced : choose_isa(cpu_features(), {});
}

}  // namespace mpcc
