// The few functions of TensorFlow's C API that the op library calls, declared here and found at run
// time in the TensorFlow that has loaded it. So the library is built without TensorFlow, and one
// file serves every version that has these functions. Source of the declarations:
// tensorflow/c/{ops,kernels,tf_status,tf_tensor,tf_buffer}.h, the stable C interface.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
struct TF_Status;
struct TF_Tensor;
struct TF_OpDefinitionBuilder;
struct TF_ShapeInferenceContext;
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;
struct TF_Buffer {
  const void* data;
  std::size_t length;
  void (*data_deallocator)(void* data, std::size_t length);
};
}

namespace mpcc::tf {

// TF_DataType and TF_Code are C enums.
using DataType = int;
using Code = int;
inline constexpr Code kInvalidArgument = 3;
inline constexpr Code kFailedPrecondition = 9;

// F(member, symbol, result, parameters)
#define MPCC_TF_FUNCTIONS(F)                                                                       \
  F(new_status, TF_NewStatus, TF_Status*, ())                                                      \
  F(delete_status, TF_DeleteStatus, void, (TF_Status*))                                            \
  F(set_status, TF_SetStatus, void, (TF_Status*, Code, const char*))                               \
  F(get_code, TF_GetCode, Code, (const TF_Status*))                                                \
  F(message, TF_Message, const char*, (const TF_Status*))                                          \
  F(new_buffer, TF_NewBuffer, TF_Buffer*, ())                                                      \
  F(delete_buffer, TF_DeleteBuffer, void, (TF_Buffer*))                                            \
  F(new_op, TF_NewOpDefinitionBuilder, TF_OpDefinitionBuilder*, (const char*))                     \
  F(register_op, TF_RegisterOpDefinition, void, (TF_OpDefinitionBuilder*, TF_Status*))             \
  F(add_attr, TF_OpDefinitionBuilderAddAttr, void, (TF_OpDefinitionBuilder*, const char*))         \
  F(add_input, TF_OpDefinitionBuilderAddInput, void, (TF_OpDefinitionBuilder*, const char*))       \
  F(add_output, TF_OpDefinitionBuilderAddOutput, void, (TF_OpDefinitionBuilder*, const char*))     \
  F(set_stateful, TF_OpDefinitionBuilderSetIsStateful, void, (TF_OpDefinitionBuilder*, bool))      \
  F(set_shapes, TF_OpDefinitionBuilderSetShapeInferenceFunction, void,                             \
    (TF_OpDefinitionBuilder*, void (*)(TF_ShapeInferenceContext*, TF_Status*)))                    \
  F(unknown_shapes, TF_ShapeInferenceContextSetUnknownShape, void,                                 \
    (TF_ShapeInferenceContext*, TF_Status*))                                                       \
  F(new_kernel, TF_NewKernelBuilder, TF_KernelBuilder*,                                            \
    (const char*, const char*, void* (*)(TF_OpKernelConstruction*),                                \
     void (*)(void*, TF_OpKernelContext*), void (*)(void*)))                                       \
  F(register_kernel, TF_RegisterKernelBuilder, void, (const char*, TF_KernelBuilder*, TF_Status*)) \
  F(node_def, TF_OpKernelConstruction_GetNodeDef, TF_Buffer*,                                      \
    (TF_OpKernelConstruction*, TF_Status*))                                                        \
  F(construction_failure, TF_OpKernelConstruction_Failure, void,                                   \
    (TF_OpKernelConstruction*, TF_Status*))                                                        \
  F(failure, TF_OpKernelContext_Failure, void, (TF_OpKernelContext*, TF_Status*))                  \
  F(functions, TF_GetSerializedFunctionDefLibrary, void,                                           \
    (TF_OpKernelContext*, TF_Buffer*, TF_Status*))                                                 \
  F(step_id, TF_StepId, std::int64_t, (TF_OpKernelContext*))                                       \
  F(num_inputs, TF_NumInputs, int, (TF_OpKernelContext*))                                          \
  F(num_outputs, TF_NumOutputs, int, (TF_OpKernelContext*))                                        \
  F(get_input, TF_GetInput, void, (TF_OpKernelContext*, int, TF_Tensor**, TF_Status*))             \
  F(set_output, TF_SetOutput, void, (TF_OpKernelContext*, int, const TF_Tensor*, TF_Status*))      \
  F(allocate_output, TF_AllocateOutput, TF_Tensor*,                                                \
    (TF_OpKernelContext*, int, DataType, const std::int64_t*, int, std::size_t, TF_Status*))       \
  F(delete_tensor, TF_DeleteTensor, void, (TF_Tensor*))                                            \
  F(tensor_type, TF_TensorType, DataType, (const TF_Tensor*))                                      \
  F(tensor_bytes, TF_TensorByteSize, std::size_t, (const TF_Tensor*))                              \
  F(tensor_data, TF_TensorData, void*, (const TF_Tensor*))

struct Api {
#define F(member, symbol, result, parameters) result(*member) parameters = nullptr;
  MPCC_TF_FUNCTIONS(F)
#undef F
};

// The functions of the TensorFlow in this process, looked up once: among what the process exports,
// else in its loaded libraries whose name has "tensorflow" in it (Python loads them privately).
// Throws Error("E-tf-version") naming a function that is missing.
const Api& api();

// Owns one object of TensorFlow.
template <class T, void (*Api::*Delete)(T*)>
class Owned {
 public:
  explicit Owned(T* p = nullptr) : p_(p) {}
  Owned(Owned&& other) noexcept : p_(other.p_) { other.p_ = nullptr; }
  Owned& operator=(Owned&& other) noexcept {
    T* const p = other.p_;
    other.p_ = nullptr;
    reset(p);
    return *this;
  }
  ~Owned() { reset(nullptr); }
  T* get() const noexcept { return p_; }

 private:
  void reset(T* p) {
    if (p_ != nullptr) (api().*Delete)(p_);
    p_ = p;
  }
  T* p_;
};
using Tensor = Owned<TF_Tensor, &Api::delete_tensor>;
using Buffer = Owned<TF_Buffer, &Api::delete_buffer>;

class Status {
 public:
  Status() : status_(api().new_status()) {}
  TF_Status* get() const noexcept { return status_.get(); }
  // Throws Error("E-tf") with TensorFlow's words unless all is well.
  void check() const;

 private:
  Owned<TF_Status, &Api::delete_status> status_;
};

}  // namespace mpcc::tf
