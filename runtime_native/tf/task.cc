#include "tf/task.h"

#include <algorithm>
#include <cstring>
#include <protozero/pbf_writer.hpp>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "net/keys.h"

namespace mpcc::tf {
namespace {

graph::RawGraph without_calls(graph::RawGraph graph) {
  for (const graph::RawNode& node : graph.nodes)
    require(node.op != "MpccCall", "E-tf-calls",
            "the program calls functions: inline them before TensorFlow runs it");
  return graph;
}

bool holds(const std::string& key, Place place) {
  const std::vector<Place> holders = key_holders(key);
  return std::ranges::find(holders, place) != holders.end();
}

std::string quoted(const std::string& name) {
  return std::string("'").append(printable(name)).append("'");
}

// The buffer of a tensor must outlive its use; TensorFlow counts references.
struct Operand {
  Tensor tensor;
  const std::byte* data = nullptr;
};

Operand operand(TF_OpKernelContext* context, int i, const ValueType& type) {
  TF_Tensor* raw = nullptr;
  const Status status;
  api().get_input(context, i, &raw, status.get());
  Operand o{Tensor(raw)};
  status.check();
  require(api().tensor_type(raw) == data_type(type) && api().tensor_bytes(raw) == type.bytes(),
          "E-tf-tensor", "an operand is not " + type.str());
  o.data = static_cast<const std::byte*>(api().tensor_data(raw));
  return o;
}

Tensor result(TF_OpKernelContext* context, int i, const ValueType& type) {
  const std::vector<std::int64_t> shape = tensor_shape(type);
  const Status status;
  Tensor t(api().allocate_output(context, i, data_type(type), shape.data(),
                                 static_cast<int>(shape.size()), type.bytes(), status.get()));
  status.check();
  return t;
}

void set_output(TF_OpKernelContext* context, int i, const Tensor& tensor) {
  const Status status;
  api().set_output(context, i, tensor.get(), status.get());
  status.check();
}

}  // namespace

Task::Task(Place place, std::span<const std::byte> program) : Task(place, program, nullptr) {}

Task::Task(Place place, std::span<const std::byte> program, std::shared_ptr<Channel> channel)
    : place_(place),
      channel_(std::move(channel)),
      raw_(without_calls(graph::read_graphdef(program))),
      program_(graph::load_program(program)),
      states_(std::make_unique<State[]>(program_.ops.size())) {
  graph::check_randomness();
  // Uses of one function differ in shapes and places at most, not in what TensorFlow calls types.
  for (std::uint32_t i = 0; i < program_.ops.size(); ++i) {
    if (!program_.ops[i].body) continue;
    const std::string& name = raw_.nodes[i + 1].find("f")->text;
    if (bodies_.contains(name)) continue;
    const auto function = std::ranges::find(raw_.functions, name, &graph::RawFunction::name);
    bodies_.emplace(name, graph::write_body(with_types(*function, *program_.ops[i].body)));
  }
}

void Task::begin(std::uint64_t run,
                 const std::map<std::string, std::span<const std::byte, prg::kKeyBytes>>& keys) {
  const bool online = run != 0;
  const std::lock_guard lock(mutex_);
  require(run_ ? run > *run_ : !online, "E-tf-run",
          "run " + std::to_string(run) + " cannot follow: ids begin at 0, the setup, and grow");
  std::set<std::array<std::byte, 32>> used = used_keys_;
  auto expanded = std::make_shared<graph::PhaseKeys>();
  for (const std::string& name : graph::key_names(program_, online)) {
    if (!holds(name, place_)) continue;
    const auto found = keys.find(name);
    require(found != keys.end(), "E-tf-keys", "the key " + name + " was not given");
    require(used.insert(net::sha256(found->second)).second, "E-tf-keys",
            "the key " + name + " has served before");
    expanded->emplace(name, prg::Aes128(found->second));
  }
  require(expanded->size() == keys.size(), "E-tf-keys",
          "a key that the program does not use in this phase, or not at this place");
  used_keys_ = std::move(used);
  (online ? run_keys_ : setup_keys_) = std::move(expanded);
  run_ = run;
  step_ = -1;
  outputs_.clear();
}

void Task::give(const std::string& name, std::span<const std::byte> data) {
  for (const Op& op : program_.ops) {
    const bool weight = op.code == OpCode::Weight;
    if ((!weight && op.code != OpCode::Input) || op.attributes.text("name") != name) continue;
    if (op.types[0].place != place_) continue;
    require(data.size() == op.types[0].bytes(), "E-tf-tensor",
            quoted(name) + " has another size than " + op.types[0].str());
    SecretBuffer copy(std::max<std::size_t>(data.size(), 1));
    if (!data.empty()) std::memcpy(copy.data(), data.data(), data.size());
    const std::lock_guard lock(mutex_);
    given_.insert_or_assign(name, std::move(copy));
    return;
  }
  throw Error("E-tf-tensor", quoted(name) + " is no input or weight of this place");
}

std::vector<std::byte> Task::output(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = outputs_.find(name);
  require(found != outputs_.end(), "E-tf-output",
          "the current run has given no output " + quoted(name) + " here");
  return found->second;
}

void Task::check_library(std::span<const std::byte> library) const {
  std::string wrapped;
  protozero::pbf_writer(wrapped).add_message(2, reinterpret_cast<const char*>(library.data()),
                                             library.size());
  const graph::RawGraph found = graph::read_graphdef(std::as_bytes(std::span(wrapped)));
  // A process is sent the functions of its own nodes only.
  for (const graph::RawFunction& function : found.functions) {
    const auto wanted = bodies_.find(function.name);
    if (wanted == bodies_.end() || graph::write_body(function) != wanted->second)
      throw Error("E-tf-edited", "function " + printable(function.name) + " is not the program's");
  }
}

// The run that the op belongs to; 0 for the setup.
std::uint64_t Task::enter(std::uint32_t op, std::int64_t step) {
  const std::lock_guard lock(mutex_);
  require(!closed_, "E-tf-usage", "the task is closed");
  require(run_.has_value(), "E-tf-run", "no run has begun: the task has no keys");
  if (!program_.steps[op].online) return 0;
  require(*run_ != 0, "E-tf-run", "the setup has begun, but no run");
  if (step_ == -1) step_ = step;
  require(step_ == step, "E-tf-run",
          "the graph is run twice in run " + std::to_string(*run_) + ": begin another one");
  return *run_;
}

const prg::Aes128& Task::key(const kernels::KeyName& name) const {
  const auto& keys = name.online ? run_keys_ : setup_keys_;
  require(keys != nullptr && keys->contains(name.holders), "E-tf-keys",
          "the key " + name.holders + " was not given");
  return keys->find(name.holders)->second;
}

void Task::compute(std::uint32_t op, TF_OpKernelContext* context) {
  const std::uint64_t run = enter(op, api().step_id(context));
  State& state = states_[op];
  const std::lock_guard lock(state.mutex);
  const std::size_t results = program_.ops[op].results.size();
  require(api().num_inputs(context) == static_cast<int>(program_.ops[op].operands.size()) &&
              api().num_outputs(context) == static_cast<int>(results),
          "E-tf-edited", "the numbers of operands and results are not the program's");
  if (!claim(state, run)) {
    for (std::size_t i = 0; i < results; ++i)
      set_output(context, static_cast<int>(i), state.kept[i]);
    return;
  }
  run_op(op, run, state, context);
  if (run == 0) state.computed = true;
  if (channel_) channel_->tell_alive(run);
}

bool Task::claim(State& state, std::uint64_t run) {
  if (run == 0) {
    if (state.computed) return false;
    require(!std::exchange(state.begun, true), "E-tf-run",
            "the setup has failed or is still at work");
    return true;
  }
  // Before the work: what fails half-way has drawn as well.
  require(state.run < run, "E-tf-run", "an op is run twice in run " + std::to_string(run));
  state.run = run;
  return true;
}

void Task::begin(std::uint64_t run, std::shared_ptr<const graph::PhaseKeys> keys) {
  const std::lock_guard lock(mutex_);
  require(run_ ? run > *run_ : run == 0, "E-tf-run", "ids of runs begin at 0, the setup, and grow");
  (run != 0 ? run_keys_ : setup_keys_) = std::move(keys);
  run_ = run;
  step_ = -1;
  outputs_.clear();
}

bool Task::crosses(std::uint32_t op) const {
  if (!channel_ || channel_->use() != Channel::Use::messages || !program_.is_transfer(op))
    return false;
  const graph::Message& m = program_.messages[program_.message_of_op[op]];
  const auto& endpoints = channel_->plan().endpoint_of_place;
  return endpoints[index_of(m.from)] != endpoints[index_of(m.to)];
}

void Task::send(std::uint32_t op, TF_OpKernelContext* context) {
  const std::uint64_t run = enter(op, api().step_id(context));
  State& state = states_[op];
  const std::lock_guard lock(state.mutex);
  if (!claim(state, run)) return;  // the setup's messages are sent once
  const ValueType& type = program_.values[program_.ops[op].operands[0]];
  require(api().num_inputs(context) == 1, "E-tf-edited", "a message without a value");
  auto held = std::make_shared<Operand>(operand(context, 0, type));
  const std::span<const std::byte> bytes{held->data, type.bytes()};
  channel_->send(program_.message_of_op[op], run, bytes, std::move(held));
  if (run == 0) state.computed = true;
}

void Task::receive(std::uint32_t op, TF_OpKernelContext* context) {
  const std::uint64_t run = enter(op, api().step_id(context));
  State& state = states_[op];
  const std::lock_guard lock(state.mutex);
  if (!claim(state, run)) {
    set_output(context, 0, state.kept[0]);
    return;
  }
  const ValueType& type = program_.ops[op].types[0];
  const SecretBuffer payload = channel_->receive(program_.message_of_op[op], run);
  Tensor tensor = result(context, 0, type);
  if (type.bytes() != 0) std::memcpy(api().tensor_data(tensor.get()), payload.data(), type.bytes());
  if (run != 0) return;
  state.kept.push_back(std::move(tensor));
  state.computed = true;
}

void Task::run_op(std::uint32_t index, std::uint64_t run, State& state,
                  TF_OpKernelContext* context) {
  const Op& op = program_.ops[index];
  const bool online = program_.steps[index].online;
  std::vector<ValueType> types;
  std::vector<Operand> operands;
  std::vector<const std::byte*> in;
  for (std::size_t i = 0; i < op.operands.size(); ++i) {
    types.push_back(program_.values[op.operands[i]]);
    operands.push_back(operand(context, static_cast<int>(i), types.back()));
    in.push_back(operands.back().data);
  }
  std::vector<Tensor> results;
  if (op.code == OpCode::Transfer) {
    set_output(context, 0, operands[0].tensor);
    results.push_back(std::move(operands[0].tensor));
  } else if (op.code == OpCode::Output) {
    const std::lock_guard lock(mutex_);
    outputs_[op.attributes.text("name")].assign(in[0], in[0] + types[0].bytes());
  } else if (op.code == OpCode::Input || op.code == OpCode::Weight) {
    const std::string& name = op.attributes.text("name");
    results.push_back(result(context, 0, op.types[0]));
    const std::lock_guard lock(mutex_);
    const auto found = given_.find(name);
    require(found != given_.end(), "E-tf-tensor", quoted(name) + " was not given");
    std::memcpy(api().tensor_data(results[0].get()), found->second.data(), op.types[0].bytes());
    given_.erase(found);  // an input serves one run, a weight is kept as a value of the setup
  } else {
    std::vector<std::byte*> out;
    for (std::size_t i = 0; i < op.types.size(); ++i) {
      results.push_back(result(context, static_cast<int>(i), op.types[i]));
      out.push_back(static_cast<std::byte*>(api().tensor_data(results.back().get())));
    }
    if (!state.kernel) {
      std::vector<bool> constant;
      for (const std::uint32_t v : op.operands)
        constant.push_back(online && !program_.steps[program_.producer[v]].online);
      state.kernel.emplace(op, types, std::move(constant));
    }
    std::shared_ptr<const graph::PhaseKeys> held;  // they stay while they are used
    std::vector<const prg::Aes128*> keys;
    {
      const std::lock_guard lock(mutex_);
      require(!online || run_ == run, "E-tf-run", "another run has begun");
      held = online ? run_keys_ : setup_keys_;
      for (const kernels::KeyName& name : state.kernel->keys()) keys.push_back(&key(name));
    }
    // TensorFlow runs independent ops side by side on its own threads.
    static thread_local ThreadPool pool(1);
    state.kernel->run(in, out, keys, pool);
  }
  if (!online) state.kept = std::move(results);
}

void Tasks::open(const std::string& scope, std::shared_ptr<Task> task) {
  const std::lock_guard lock(mutex_);
  auto& places = tasks_[scope];
  require(places.empty() || places.begin()->second->program().hash == task->program().hash,
          "E-tf-usage", "the scope " + quoted(scope) + " belongs to another program");
  const Place place = task->place();
  require(places.emplace(place, std::move(task)).second, "E-tf-usage",
          "the place " + std::string(place_name(place)) + " is open in this scope");
}

void Tasks::close(const std::string& scope, Place place) {
  const std::lock_guard lock(mutex_);
  const auto found = tasks_.find(scope);
  if (found == tasks_.end()) return;
  if (const auto task = found->second.find(place); task != found->second.end()) {
    task->second->close();
    found->second.erase(task);
  }
  if (found->second.empty()) tasks_.erase(found);
}

std::shared_ptr<Task> Tasks::find(const std::string& scope, Place place) const {
  const std::lock_guard lock(mutex_);
  const auto found = tasks_.find(scope);
  if (found == tasks_.end()) return nullptr;
  const auto task = found->second.find(place);
  return task == found->second.end() ? nullptr : task->second;
}

std::shared_ptr<Task> Tasks::any(const std::string& scope) const {
  const std::lock_guard lock(mutex_);
  const auto found = tasks_.find(scope);
  return found == tasks_.end() ? nullptr : found->second.begin()->second;
}

Tasks& Tasks::of_process() {
  static Tasks tasks;
  return tasks;
}

}  // namespace mpcc::tf
