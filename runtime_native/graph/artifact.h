// The program inside an artifact file (M.mpcc). The file is not trusted: entries, announced and
// real sizes, format version and hashes are checked; see docs/artifact-format.md.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace mpcc::graph {

struct Artifact {
  std::vector<std::byte> program;  // the GraphDef's bytes, hash checked
  std::string protocol;
};

// Throws Error("E-artifact...").
Artifact read_artifact(const std::string& path);

}  // namespace mpcc::graph
