// The ops of a program and their kernels, as TensorFlow knows them.
//
// Every op has the same form: operands of the types "Tin", results of the types "Tout", and the
// attributes of party_ops.inc under the types in which a GraphDef stores them. All are stateful, so
// that no optimiser folds, merges or duplicates a node that draws, sends or holds a share.
#pragma once

namespace mpcc::tf {

// Registers all of them with the TensorFlow in this process. Throws Error("E-tf-version") or
// Error("E-tf").
void register_ops();

}  // namespace mpcc::tf
