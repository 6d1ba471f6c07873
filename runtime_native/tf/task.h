// What one place of a program has in its TensorFlow process: the program, the keys, the tensors of
// its owner. Kernels find it by the scope of their node and the place of their op; nothing of it
// ever stands in a graph.
//
//   open(scope, place, program)      once, before a graph is run
//   give(name, bytes)                weights before run 0, inputs before each run
//   begin(0, keys)                   the keys of the setup
//   begin(run, keys)                 of a run; run ids only grow
//   ... the graph is run, once ...
//   output(name)
//
// A graph that is run twice after one begin() is refused: it would use streams again. Values of the
// setup are computed in the first run and kept; later runs hand out the same tensors, whatever the
// graph says by then.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/secret_buffer.h"
#include "graph/graphdef.h"
#include "graph/keys.h"
#include "graph/program.h"
#include "kernels/kernel.h"
#include "tf/channel.h"
#include "tf/node.h"
#include "tf/tensorflow.h"

namespace mpcc::tf {

class Task {
 public:
  // Throws what load_program() throws; Error("E-tf-calls") for a program with functions that are
  // called, which must be inlined first.
  Task(Place place, std::span<const std::byte> program);

  // The same at an endpoint of a channel: what crosses endpoints is sent and received by ops.
  Task(Place place, std::span<const std::byte> program, std::shared_ptr<Channel> channel);

  // Keys by holder set; all that the place holds in this phase and no others. Throws
  // Error("E-tf-run") unless the run's id is new, Error("E-tf-keys") for a key that is missing,
  // not the place's, or has served before.
  void begin(std::uint64_t run,
             const std::map<std::string, std::span<const std::byte, prg::kKeyBytes>>& keys);
  // With the keys that the channel has agreed on.
  void begin(std::uint64_t run, std::shared_ptr<const graph::PhaseKeys> keys);
  // An input or weight of this place. Throws Error("E-tf-tensor").
  void give(const std::string& name, std::span<const std::byte> data);
  // The bytes of an output of the current run. Throws Error("E-tf-output").
  std::vector<std::byte> output(const std::string& name) const;
  // Kernels that still know the task refuse to work from here on.
  void close() noexcept { closed_ = true; }

  Place place() const noexcept { return place_; }
  Channel* channel() const noexcept { return channel_.get(); }
  // Whether the transfer is a message of the channel's.
  bool crosses(std::uint32_t op) const;
  const graph::Program& program() const noexcept { return program_; }
  const graph::RawNode* node(std::uint32_t op) const noexcept {
    return op < program_.ops.size() ? &raw_.nodes[op + 1] : nullptr;
  }
  // Throws Error("E-tf-edited") unless every function of `library`, a FunctionDefLibrary, is one of
  // the program. What runs is the program's in any case.
  void check_library(std::span<const std::byte> library) const;
  bool library_checked_in(std::int64_t step) const noexcept { return library_step_ == step; }
  void library_is_checked(std::int64_t step) noexcept { library_step_ = step; }

  // One op in a step of TensorFlow's. Throws Error("E-tf-run") outside of a run, in two steps of
  // one run, or a second time in it.
  void compute(std::uint32_t op, TF_OpKernelContext* context);
  // The two ends of a transfer over the channel; receive() waits.
  void send(std::uint32_t op, TF_OpKernelContext* context);
  void receive(std::uint32_t op, TF_OpKernelContext* context);

 private:
  struct State {
    std::mutex mutex;
    std::optional<kernels::Kernel> kernel;
    std::uint64_t run = 0;     // the last one that it was computed in
    bool begun = false;        // setup
    bool computed = false;     // setup, and to the end
    std::vector<Tensor> kept;  // setup: its results
  };

  void run_op(std::uint32_t op, std::uint64_t run, State& state, TF_OpKernelContext* context);
  // Marks the op as run; false if its kept results are to be handed out.
  bool claim(State& state, std::uint64_t run);
  std::uint64_t enter(std::uint32_t op, std::int64_t step);
  const prg::Aes128& key(const kernels::KeyName& name) const;

  const Place place_;
  const std::shared_ptr<Channel> channel_;
  graph::RawGraph raw_;
  graph::Program program_;
  std::map<std::string, std::string> bodies_;  // functions as TensorFlow has them, encoded
  std::unique_ptr<State[]> states_;            // by op
  std::atomic<bool> closed_{false};
  std::atomic<std::int64_t> library_step_{-1};

  mutable std::mutex mutex_;  // of what follows
  std::optional<std::uint64_t> run_;
  std::int64_t step_ = -1;  // TensorFlow's number of the run, from its first op on
  std::shared_ptr<const graph::PhaseKeys> setup_keys_;
  std::shared_ptr<const graph::PhaseKeys> run_keys_;
  std::set<std::array<std::byte, 32>> used_keys_;  // hashes
  std::map<std::string, SecretBuffer> given_;
  std::map<std::string, std::vector<std::byte>> outputs_;
};

// The tasks of this process. Kernels are made by TensorFlow from a node alone, so this is the one
// place where they can look.
class Tasks {
 public:
  // Throws Error("E-tf-usage") when the place is open in this scope, or the scope is another
  // program's.
  void open(const std::string& scope, std::shared_ptr<Task> task);
  void close(const std::string& scope, Place place);
  // Null if there is none.
  std::shared_ptr<Task> find(const std::string& scope, Place place) const;
  std::shared_ptr<Task> any(const std::string& scope) const;

  static Tasks& of_process();

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::map<Place, std::shared_ptr<Task>>> tasks_;
};

}  // namespace mpcc::tf
