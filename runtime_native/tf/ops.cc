#include "tf/ops.h"

#include <atomic>
#include <charconv>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "tf/task.h"

namespace mpcc::tf {
namespace {

constexpr const char* kProgram = "MpccProgram";
// The ends of a transfer where every endpoint has a session of its own: "n61" receives, "s61"
// sends.
constexpr const char* kSend = "MpccSend";
constexpr const char* kReceive = "MpccReceive";

// What TensorFlow keeps per node.
struct NodeKernel {
  std::shared_ptr<Task> task;
  std::uint32_t op = 0;
  bool has_body = false;
  std::atomic<bool> checked{false};
};

void fail(TF_OpKernelConstruction* context, const char* text) {
  const Status status;
  api().set_status(status.get(), kInvalidArgument, text);
  api().construction_failure(context, status.get());
}

void fail(TF_OpKernelContext* context, const char* text) {
  const Status status;
  api().set_status(status.get(), kFailedPrecondition, text);
  api().failure(context, status.get());
}

template <class Context, class F>
void guarded(Context* context, F&& f) noexcept {
  try {
    f();
  } catch (const std::exception& error) {
    fail(context, error.what());
  }
}

std::span<const std::byte> view(const TF_Buffer* buffer) {
  return {static_cast<const std::byte*>(buffer->data), buffer->length};
}

Node node_of(TF_OpKernelConstruction* context) {
  const Status status;
  const Buffer buffer(api().node_def(context, status.get()));
  status.check();
  return read_node(view(buffer.get()));
}

// "n17" to 17
std::uint32_t op_of(const Node& node) {
  std::uint32_t op = 0;
  const char letter = node.op == kSend ? 's' : 'n';
  const char* end = node.name.data() + node.name.size();
  const bool ok = node.name.starts_with(letter) &&
                  std::from_chars(node.name.data() + 1, end, op).ptr == end &&
                  node.name == std::string(1, letter).append(std::to_string(op));
  require(ok, "E-tf-edited", "a node that the program does not have",
          printable(node.scope + node.name));
  return op;
}

std::unique_ptr<NodeKernel> make_kernel(const Node& node) {
  const std::shared_ptr<Task> any = Tasks::of_process().any(node.scope);
  require(any != nullptr, "E-tf-usage", "no place is open in this process for the graph",
          printable(node.scope + node.name));
  const graph::Program& program = any->program();
  const std::uint32_t index = op_of(node);
  const graph::RawNode* wanted = any->node(index);
  require(wanted != nullptr, "E-tf-edited", "a node that the program does not have",
          printable(node.scope + node.name));
  const Op& op = program.ops[index];
  std::vector<ValueType> operands;
  for (const std::uint32_t v : op.operands) operands.push_back(program.values[v]);
  std::vector<ValueType> results = op.types;
  Place place = program.steps[index].place;
  graph::RawNode expected = *wanted;
  const bool end = node.op == kSend || node.op == kReceive;
  if (end && program.is_transfer(index)) {
    expected.op = node.op;
    if (node.op == kSend) {
      place = operands[0].place;
      results.clear();
    } else {
      expected.inputs.clear();
      operands.clear();
    }
  }
  check_node(node, expected, operands, results, !end && op.code == OpCode::Transfer);
  auto kernel = std::make_unique<NodeKernel>();
  kernel->task = Tasks::of_process().find(node.scope, place);
  require(kernel->task != nullptr, "E-tf-place",
          "this process is not " + std::string(place_name(place)) + " of the program",
          printable(node.scope + node.name));
  require(kernel->task->crosses(index) == end, "E-tf-edited",
          end ? "a message where TensorFlow has an edge" : "an edge where a message is sent",
          printable(node.scope + node.name));
  kernel->op = index;
  kernel->has_body = op.body != nullptr;
  return kernel;
}

void* create(TF_OpKernelConstruction* context) {
  void* made = nullptr;
  guarded(context, [&] { made = make_kernel(node_of(context)).release(); });
  return made;
}

void check_bodies(NodeKernel& kernel, TF_OpKernelContext* context) {
  // One kernel's look serves all that are new in the same step.
  const std::int64_t step = api().step_id(context);
  if (kernel.checked || kernel.task->library_checked_in(step)) {
    kernel.checked = true;
    return;
  }
  const Buffer buffer(api().new_buffer());
  const Status status;
  api().functions(context, buffer.get(), status.get());
  status.check();
  kernel.task->check_library(view(buffer.get()));
  kernel.task->library_is_checked(step);
  kernel.checked = true;
}

// An op that fails ends the session of its endpoint: the peers are told, and no op waits on.
[[noreturn]] void stop(const NodeKernel& kernel, const Error& error) {
  const std::string step = kernel.task->program().describe(kernel.op);
  if (Channel* channel = kernel.task->channel()) channel->abort(step, error.code());
  throw error.within(step);
}

void compute(void* made, TF_OpKernelContext* context) {
  auto& kernel = *static_cast<NodeKernel*>(made);
  guarded(context, [&] {
    try {
      if (kernel.has_body) check_bodies(kernel, context);
      kernel.task->compute(kernel.op, context);
    } catch (const Error& error) {
      stop(kernel, error);
    }
  });
}

void compute_send(void* made, TF_OpKernelContext* context) {
  auto& kernel = *static_cast<NodeKernel*>(made);
  guarded(context, [&] {
    try {
      kernel.task->send(kernel.op, context);
    } catch (const Error& error) {
      stop(kernel, error);
    }
  });
}

void compute_receive(void* made, TF_OpKernelContext* context) {
  auto& kernel = *static_cast<NodeKernel*>(made);
  guarded(context, [&] {
    try {
      kernel.task->receive(kernel.op, context);
    } catch (const Error& error) {
      stop(kernel, error);
    }
  });
}

void destroy(void* made) { delete static_cast<NodeKernel*>(made); }

// The program's own node holds what the compiler says of the program, and computes nothing.
void* create_nothing(TF_OpKernelConstruction*) { return nullptr; }
void compute_nothing(void*, TF_OpKernelContext*) {}
void destroy_nothing(void*) {}

// A shape function of the C API can ask for attributes of type "type" alone; the shapes are known
// to the nodes ("_output_shapes"), and TensorFlow takes them from there where this says nothing.
void shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  api().unknown_shapes(context, status);
}

const char* stored_as(AttrKind kind) {
  switch (kind) {
    case AttrKind::Int:
      return "int";
    case AttrKind::Bool:
      return "bool";
    case AttrKind::Ints:
      return "list(int)";
    case AttrKind::Strs:
      return "list(string)";
    case AttrKind::Str:
    case AttrKind::Float:
    case AttrKind::Nested:
      break;
  }
  return "string";
}

void register_kernel(TF_KernelBuilder* builder, const char* node_op) {
  const Status status;
  api().register_kernel(node_op, builder, status.get());
  status.check();
}

// The op `node_op` with the attributes of `spec`, without a kernel.
void register_op(const char* node_op, const OpSpec& spec) {
  TF_OpDefinitionBuilder* op = api().new_op(node_op);
  for (const AttrSpec& a : spec.attributes)
    api().add_attr(op, (std::string(a.name) + ": " + stored_as(a.kind)).c_str());
  if (spec.code == OpCode::Fused) api().add_attr(op, "f: func");
  api().add_attr(op, "T: type");
  api().add_attr(op, "Tin: list(type) >= 0");
  api().add_attr(op, "Tout: list(type) >= 0");
  api().add_input(op, "operands: Tin");
  api().add_output(op, "out: Tout");  // the name that inputs in bodies have: "b1:out:0"
  api().set_stateful(op, true);
  api().set_shapes(op, shapes);
  const Status status;
  api().register_op(op, status.get());
  status.check();
}

void register_op(const OpSpec& spec) {
  const std::string name(spec.node_op);
  register_op(name.c_str(), spec);
  register_kernel(api().new_kernel(name.c_str(), "CPU", create, compute, destroy), name.c_str());
}

}  // namespace

void register_ops() {
  TF_OpDefinitionBuilder* program = api().new_op(kProgram);
  api().set_stateful(program, true);
  api().set_shapes(program, shapes);
  const Status status;
  api().register_op(program, status.get());
  status.check();
  register_kernel(
      api().new_kernel(kProgram, "CPU", create_nothing, compute_nothing, destroy_nothing),
      kProgram);
#define A(name, kind)
#define X(Name, node_op, least, most, elementwise, attributes) \
  if (OpCode::Name != OpCode::Call) register_op(spec_of(OpCode::Name));
#include "kernels/party_ops.inc"
#undef X
#undef A
  const OpSpec& transfer = spec_of(OpCode::Transfer);
  register_op(kSend, transfer);
  register_kernel(api().new_kernel(kSend, "CPU", create, compute_send, destroy), kSend);
  register_op(kReceive, transfer);
  register_kernel(api().new_kernel(kReceive, "CPU", create, compute_receive, destroy), kReceive);
}

}  // namespace mpcc::tf
