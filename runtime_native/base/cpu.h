// What this CPU and operating system can run, and which kernel variant is wanted.
//
// Kernel families exist in variants per instruction set. A variant is chosen at run time, best
// first; MPCC_ISA=scalar|avx2|avx512|amx forces one (all are equal bit for bit). Forcing an
// instruction set that the machine lacks is an error, never a crash and never a silent fallback.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace mpcc {

// In ascending priority.
enum class Isa { scalar, avx2, avx512, amx };

// Ascending; the ladder that families walk down when they lack a variant for the chosen one.
std::span<const Isa> all_isas() noexcept;
std::string_view isa_name(Isa isa) noexcept;
// Throws Error("E-isa-unknown") for a name that is not in the list.
Isa parse_isa(std::string_view name);

struct CpuFeatures {
  bool aesni = false;
  bool vaes = false;
  bool avx2 = false;    // with OS support for YMM state
  bool avx512 = false;  // F, BW, DQ, VL, with OS support for ZMM state
  bool bmi2 = false;
  bool amx_int8 = false;  // tile + int8, with XTILE state granted to this process

  bool supports(Isa isa) const noexcept;
  std::string describe() const;  // "aesni vaes avx2 ..." for logs and `mpcc doctor`
};

// Asks the CPU; where it has AMX, also asks Linux for the tile registers
// (arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)), which holds for the whole process.
CpuFeatures detect_cpu_features() noexcept;
// The same, asked once per process.
const CpuFeatures& cpu_features() noexcept;

// The instruction set to use: `forced` when it is not empty, else the best that is supported.
// Throws Error("E-isa-unknown") or Error("E-isa-unsupported").
Isa choose_isa(const CpuFeatures& features, std::string_view forced);
// choose_isa(cpu_features(), $MPCC_ISA). Reads the environment at each call.
Isa chosen_isa();
// What $MPCC_ISA forces; nothing when it is unset or empty. Throws as choose_isa().
std::optional<Isa> forced_isa();

}  // namespace mpcc
