// What a process that holds secrets asks of the operating system.
#pragma once

#include <cstddef>

namespace mpcc {

// No core file, whatever the limits and the handler of the machine say, and no debugger of the same
// user: RLIMIT_CORE 0 and PR_SET_DUMPABLE 0. For a program's main(), before it reads a secret.
// Throws Error("E-process-dumps") when the system refuses.
void forbid_dumps();

// Keeps all memory of the process, present and future, out of swap: mlockall(2).
// Throws Error("E-process-mlock") when the system refuses, with the limit in force.
void lock_memory();

// After lock_memory(): whether `bytes` more can be locked, so that a limit that is too small is an
// error at the start and not in the middle of a run. Throws Error("E-process-mlock").
void require_lockable(std::size_t bytes);

}  // namespace mpcc
