#include "kernels/structural.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace mpcc::kernels {
namespace {

using Ints = std::vector<std::int64_t>;

Ints row_major(const Ints& shape) {
  Ints steps(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    steps[i] = step;
    step *= std::max<std::int64_t>(shape[i], 1);
  }
  return steps;
}

// Drops axes of size 1 and merges neighbours that are contiguous on both sides.
void simplify(BoxCopy& c) {
  Ints shape;
  Ints from;
  Ints to;
  for (std::size_t i = 0; i < c.shape.size(); ++i) {
    if (c.shape[i] == 1) continue;
    if (!shape.empty() && from.back() == c.shape[i] * c.from_steps[i] &&
        to.back() == c.shape[i] * c.to_steps[i]) {
      shape.back() *= c.shape[i];
      from.back() = c.from_steps[i];
      to.back() = c.to_steps[i];
    } else {
      shape.push_back(c.shape[i]);
      from.push_back(c.from_steps[i]);
      to.push_back(c.to_steps[i]);
    }
  }
  if (shape.empty()) {
    shape = {1};
    from = {1};
    to = {1};
  }
  c.shape = std::move(shape);
  c.from_steps = std::move(from);
  c.to_steps = std::move(to);
}

template <class W>
void copy_row(const W* from, std::int64_t from_step, W* to, std::int64_t to_step, std::int64_t n) {
  if (from_step == 1 && to_step == 1)
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(W));
  else if (from_step == 0 && to_step == 1)
    std::fill_n(to, n, *from);
  else
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
}

// The two innermost axes, in tiles when the source runs along the outer one (a transposition): a
// tile's lines stay in the first-level cache on both sides.
template <class W>
void copy_plane(const W* from, W* to, std::int64_t rows, std::int64_t cols, std::int64_t from_row,
                std::int64_t from_col, std::int64_t to_row, std::int64_t to_col) {
  if (from_col == 1 || from_col == 0 || from_row != 1) {
    for (std::int64_t r = 0; r < rows; ++r)
      copy_row(from + r * from_row, from_col, to + r * to_row, to_col, cols);
    return;
  }
  constexpr std::int64_t kTile = 16;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kTile)
    for (std::int64_t c0 = 0; c0 < cols; c0 += kTile)
      for (std::int64_t r = r0; r < std::min(rows, r0 + kTile); ++r)
        for (std::int64_t c = c0; c < std::min(cols, c0 + kTile); ++c)
          to[r * to_row + c * to_col] = from[r * from_row + c * from_col];
}

template <class W>
void copy_box(const BoxCopy& box, std::size_t axis, const W* from, W* to) {
  const std::size_t rank = box.shape.size();
  if (rank == 1) {
    copy_row(from, box.from_steps[0], to, box.to_steps[0], box.shape[0]);
  } else if (axis + 2 == rank) {
    copy_plane(from, to, box.shape[axis], box.shape[axis + 1], box.from_steps[axis],
               box.from_steps[axis + 1], box.to_steps[axis], box.to_steps[axis + 1]);
  } else {
    for (std::int64_t i = 0; i < box.shape[axis]; ++i)
      copy_box(box, axis + 1, from + i * box.from_steps[axis], to + i * box.to_steps[axis]);
  }
}

RowCopy row_copy(const ValueType& x, std::size_t axis, const Ints& indices) {
  RowCopy c;
  c.outer = c.inner = 1;
  for (std::size_t i = 0; i < axis; ++i) c.outer *= x.shape[i];
  for (std::size_t i = axis + 1; i < x.shape.size(); ++i) c.inner *= x.shape[i];
  c.from_size = x.shape[axis];
  c.to_size = static_cast<std::int64_t>(indices.size());
  for (std::int64_t to = 0; to < c.to_size; ++to) {
    const std::int64_t from = indices[static_cast<std::size_t>(to)];
    if (!c.runs.empty() && c.runs.back().from + c.runs.back().count == from)
      ++c.runs.back().count;
    else
      c.runs.push_back({from, to, 1});
  }
  return c;
}

// Words that a task moves at least.
constexpr std::int64_t kLeastWords = 8192;

template <class W>
void copy_rows(const RowCopy& c, const W* from, W* to, ThreadPool& pool) {
  const auto runs = static_cast<std::int64_t>(c.runs.size());
  if (c.outer == 0 || c.inner == 0 || runs == 0) return;
  const auto tasks = static_cast<std::size_t>(c.outer * runs);
  const std::int64_t words = std::max<std::int64_t>(1, c.to_size * c.inner / runs);
  const auto least = static_cast<std::size_t>(std::max<std::int64_t>(1, kLeastWords / words));
  pool.parallel_for(tasks, pool.grain_for(tasks, least), [&](std::size_t begin, std::size_t end) {
    std::int64_t outer = static_cast<std::int64_t>(begin) / runs;
    std::int64_t number = static_cast<std::int64_t>(begin) % runs;
    for (std::size_t t = begin; t < end; ++t) {
      const RowCopy::Run& run = c.runs[static_cast<std::size_t>(number)];
      const W* source = from + (outer * c.from_size + run.from) * c.inner;
      W* target = to + (outer * c.to_size + run.to) * c.inner;
      const std::int64_t n = run.count * c.inner;
      if (n == 1)
        *target = *source;
      else
        std::memcpy(target, source, static_cast<std::size_t>(n) * sizeof(W));
      if (++number == runs) {
        number = 0;
        ++outer;
      }
    }
  });
}

}  // namespace

bool is_structural(OpCode code) noexcept {
  switch (code) {
    case OpCode::Reshape:
    case OpCode::Transpose:
    case OpCode::Broadcast:
    case OpCode::Pad:
    case OpCode::Slice:
    case OpCode::Gather:
    case OpCode::Concat:
      return true;
    default:
      return false;
  }
}

std::optional<std::size_t> slice_start(const Op& op, const ValueType& x) {
  const ValueType& out = op.types.at(0);
  if (out.lanes == 0) return std::nullopt;
  const Ints from = row_major(x.shape);
  const Ints& starts = op.attributes.integers("starts");
  const Ints& strides = op.attributes.integers("strides");
  std::int64_t start = 0;
  bool one = true;  // so far the axes of the result have one element each
  for (std::size_t i = 0; i < from.size(); ++i) {
    start += starts[i] * from[i];
    if (!one && out.shape[i] != x.shape[i]) return std::nullopt;
    if (out.shape[i] == 1) continue;
    if (strides[i] != 1) return std::nullopt;
    one = false;
  }
  return static_cast<std::size_t>(start) * x.word();
}

Structural::Structural(const Op& op, std::span<const ValueType> operands) {
  const ValueType& out = op.types.at(0);
  wide_ = out.word() == 8;
  words_ = out.lanes;
  const Ints to = row_major(out.shape);
  const auto add = [&](BoxCopy copy) {
    if (std::ranges::find(copy.shape, 0) != copy.shape.end()) return;
    simplify(copy);
    copies_.push_back(std::move(copy));
  };
  const ValueType& x = operands[0];
  const Ints from = row_major(x.shape);
  switch (op.code) {
    case OpCode::Reshape:
      add({0, 0, 0, out.shape, to, to});
      break;
    case OpCode::Transpose: {
      Ints steps;
      for (const std::int64_t p : op.attributes.integers("perm"))
        steps.push_back(from[static_cast<std::size_t>(p)]);
      add({0, 0, 0, out.shape, steps, to});
      break;
    }
    case OpCode::Broadcast: {
      Ints steps(out.shape.size(), 0);
      const Ints& dims = op.attributes.integers("dims");
      for (std::size_t i = 0; i < dims.size(); ++i)
        if (x.shape[i] != 1) steps[static_cast<std::size_t>(dims[i])] = from[i];
      add({0, 0, 0, out.shape, steps, to});
      break;
    }
    case OpCode::Pad: {
      fill_ = x.lanes != out.lanes;
      value_ = static_cast<std::uint64_t>(op.attributes.integer("value"));
      const Ints& low = op.attributes.integers("low");
      std::int64_t start = 0;
      for (std::size_t i = 0; i < low.size(); ++i) start += low[i] * to[i];
      add({0, 0, start, x.shape, from, to});
      break;
    }
    case OpCode::Slice: {
      const Ints& starts = op.attributes.integers("starts");
      const Ints& strides = op.attributes.integers("strides");
      std::int64_t start = 0;
      Ints steps(from.size());
      for (std::size_t i = 0; i < from.size(); ++i) {
        start += starts[i] * from[i];
        // The stride of an axis with one element left is never stepped; large ones would overflow.
        steps[i] = out.shape[i] > 1 ? from[i] * strides[i] : from[i];
      }
      add({0, start, 0, out.shape, steps, to});
      break;
    }
    case OpCode::Gather:
      rows_ = row_copy(x, static_cast<std::size_t>(op.attributes.integer("axis")),
                       op.attributes.integers("indices"));
      break;
    case OpCode::Concat: {
      const auto axis = static_cast<std::size_t>(op.attributes.integer("axis"));
      std::int64_t at = 0;
      for (std::size_t i = 0; i < operands.size(); ++i) {
        add({i, 0, at * to[axis], operands[i].shape, row_major(operands[i].shape), to});
        at += operands[i].shape[axis];
      }
      break;
    }
    default:
      throw Error("E-graph-op", std::string(spec_of(op.code).name) + " is not structural");
  }
}

void Structural::run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) const {
  if (wide_)
    run_words<std::uint64_t>(in, out, pool);
  else
    run_words<std::uint32_t>(in, out, pool);
}

template <class W>
void Structural::run_words(std::span<const std::byte* const> in, std::byte* out,
                           ThreadPool& pool) const {
  W* words = reinterpret_cast<W*>(out);
  if (fill_) std::fill_n(words, words_, static_cast<W>(value_));
  if (!rows_.runs.empty()) copy_rows(rows_, reinterpret_cast<const W*>(in[0]), words, pool);
  for (const BoxCopy& copy : copies_) {
    const W* from = reinterpret_cast<const W*>(in[copy.operand]) + copy.from;
    W* to = words + copy.to;
    const auto outer = static_cast<std::size_t>(copy.shape[0]);
    if (copy.shape.size() == 1 || pool.threads() == 1) {
      copy_box(copy, 0, from, to);
      continue;
    }
    pool.parallel_for(outer, pool.grain_for(outer, 1), [&](std::size_t begin, std::size_t end) {
      BoxCopy part = copy;
      part.shape[0] = static_cast<std::int64_t>(end - begin);
      const auto first = static_cast<std::int64_t>(begin);
      copy_box(part, 0, from + first * copy.from_steps[0], to + first * copy.to_steps[0]);
    });
  }
}

}  // namespace mpcc::kernels
