#include "kernels/linear.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "ring/conv/conv.h"
#include "ring/gemm/gemm.h"

namespace mpcc::kernels {
namespace {

using Ints = std::vector<std::int64_t>;

// Any rank, any sizes: the definition in loops. For ranks that the ring library has no kernel for.
template <class W>
class DirectConv {
 public:
  DirectConv(const Op& op, const ValueType& x, const ValueType& w)
      : x_(x.shape),
        w_(w.shape),
        out_(op.types[0].shape),
        strides_(op.attributes.integers("strides")),
        pads_(op.attributes.integers("pads")),
        dilations_(op.attributes.integers("dilations")) {}

  // Multiply-adds, counting the positions that are looked at in vain.
  std::uint64_t work() const {
    if (empty()) return 0;
    std::uint64_t n = 1;
    for (std::size_t i = 2; i < x_.size(); ++i)
      n = product_of(n, static_cast<std::uint64_t>(out_[i]) * static_cast<std::uint64_t>(w_[i]));
    for (const std::int64_t size : {x_[0], w_[0], w_[1]})
      n = product_of(n, static_cast<std::uint64_t>(size));
    return n;
  }

  void accumulate(const W* x, const W* w, W* out) const {
    // Taps and pixels of the padding may be very many, even if there is nothing to sum up.
    if (empty()) return;
    const std::size_t rank = x_.size() - 2;
    std::int64_t pixels = 1;
    std::int64_t taps = 1;
    std::int64_t area = 1;
    for (std::size_t i = 0; i < rank; ++i) {
      pixels *= out_[2 + i];
      taps *= w_[2 + i];
      area *= x_[2 + i];
    }
    const std::int64_t groups = w_[1] == 0 ? 1 : x_[1] / w_[1];
    const std::int64_t per_group = w_[0] / groups;
    for (std::int64_t t = 0; t < taps; ++t)
      for (std::int64_t p = 0; p < pixels; ++p) {
        std::int64_t at = 0;
        std::int64_t stride = 1;
        bool inside = true;
        std::int64_t pt = t;
        std::int64_t pp = p;
        for (std::size_t i = rank; i-- > 0;) {
          const std::int64_t pos =
              (pp % out_[2 + i]) * strides_[i] + (pt % w_[2 + i]) * dilations_[i] - pads_[i];
          pp /= out_[2 + i];
          pt /= w_[2 + i];
          inside = inside && pos >= 0 && pos < x_[2 + i];
          if (inside) at += pos * stride;
          stride *= x_[2 + i];
        }
        if (!inside) continue;
        for (std::int64_t n = 0; n < x_[0]; ++n)
          for (std::int64_t o = 0; o < w_[0]; ++o) {
            W sum = 0;
            for (std::int64_t c = 0; c < w_[1]; ++c)
              sum += x[(n * x_[1] + o / per_group * w_[1] + c) * area + at] *
                     w[(o * w_[1] + c) * taps + t];
            out[(n * w_[0] + o) * pixels + p] += sum;
          }
      }
  }

 private:
  bool empty() const { return x_[0] == 0 || w_[0] == 0 || w_[1] == 0; }

  Ints x_, w_, out_, strides_, pads_, dilations_;
};

}  // namespace

bool is_linear(OpCode code) noexcept { return code == OpCode::Conv || code == OpCode::Matmul; }

class Linear::Impl {
 public:
  virtual ~Impl() = default;
  virtual void pack(std::span<const std::byte* const> in) = 0;
  virtual void run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) = 0;
  virtual std::size_t packed_bytes() const noexcept = 0;
  virtual Demand demand(int threads) const = 0;

  template <class W>
  class Matmul;
  template <class W>
  class Convolution;
};

// A stack of products times one right matrix is a product with more rows; with a right matrix each,
// the stack is cut among the threads, or its products are, when they are few and large.
template <class W>
class Linear::Impl::Matmul final : public Linear::Impl {
 public:
  Matmul(std::span<const ValueType> operands, std::vector<bool> constant)
      : constant_(std::move(constant)) {
    const Ints& a = operands[0].shape;
    const Ints& b = operands[1].shape;
    const auto size = [](std::int64_t v) { return static_cast<std::size_t>(v); };
    rows_ = size(a[a.size() - 2]);
    depth_ = size(a.back());
    cols_ = size(b.back());
    std::size_t stack = 1;
    for (std::size_t i = 0; i + 2 < a.size(); ++i) stack = checked_mul(stack, size(a[i]));
    if (b.size() > 2)
      stack_ = stack;
    else
      rows_ = checked_mul(rows_, stack);
    packed_.resize(constant_.size() / 2);
  }

  // A product with one row reads the weights once either way, a large one sums parts of them.
  void pack(std::span<const std::byte* const> in) override {
    for (std::size_t i = 0; i < packed_.size(); ++i)
      if (packs(i) && !packed_[i])
        packed_[i] = std::make_unique<ring::PackedMatrix<W>>(right(in[2 * i + 1]));
  }

  void run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) override {
    if (stack_ != 1) return run_stack(in, reinterpret_cast<W*>(out), pool);
    pack(in);
    std::vector<ring::GemmPair<W>> pairs;
    for (std::size_t i = 0; i < packed_.size(); ++i) {
      const auto* a = reinterpret_cast<const W*>(in[2 * i]);
      pairs.push_back({{a, rows_, depth_, depth_}, right(in[2 * i + 1]), packed_[i].get()});
    }
    ring::gemm<W>(pairs, {reinterpret_cast<W*>(out), rows_, cols_, cols_}, false, pool);
  }

  std::size_t packed_bytes() const noexcept override {
    std::size_t n = 0;
    for (const auto& p : packed_) n += p ? p->bytes() : 0;
    return n;
  }

  Demand demand(int threads) const override {
    Demand d;
    std::size_t packed = 0;
    for (std::size_t i = 0; i < packed_.size(); ++i) packed += packs(i) ? 1 : 0;
    d.ring = ring::gemm_scratch<W>(rows_, depth_, cols_, packed != 0, packed == packed_.size(),
                                   stack_ == 1 || by_product(threads) ? threads : 1);
    if (packed != 0)
      d.packed_bytes = checked_mul(packed, ring::PackedMatrix<W>::bytes_for(depth_, cols_));
    d.work = product_of(product_of(packed_.size(), rows_), product_of(depth_, cols_));
    d.work = product_of(d.work, stack_);
    return d;
  }

 private:
  ring::ConstMatrix<W> right(const std::byte* data) const {
    return {reinterpret_cast<const W*>(data), depth_, cols_, cols_};
  }

  bool packs(std::size_t pair) const {
    return stack_ == 1 && constant_[2 * pair + 1] && rows_ >= kPackRows &&
           !ring::gemm_cuts<W>(rows_, depth_, cols_);
  }

  // Whether the threads share each product of the stack, and not the stack.
  bool by_product(int threads) const {
    return stack_ < static_cast<std::size_t>(2 * threads) &&
           product_of(product_of(rows_, depth_), cols_) >= kLargeProduct;
  }

  void run_stack(std::span<const std::byte* const> in, W* out, ThreadPool& pool) const {
    const std::size_t a_words = rows_ * depth_;
    const std::size_t b_words = depth_ * cols_;
    const std::size_t c_words = rows_ * cols_;
    const auto products = [&](std::size_t begin, std::size_t end, ThreadPool& threads) {
      std::vector<ring::GemmPair<W>> pairs(packed_.size());
      for (std::size_t n = begin; n < end; ++n) {
        for (std::size_t i = 0; i < pairs.size(); ++i) {
          const W* a = reinterpret_cast<const W*>(in[2 * i]) + n * a_words;
          const W* b = reinterpret_cast<const W*>(in[2 * i + 1]) + n * b_words;
          pairs[i] = {{a, rows_, depth_, depth_}, {b, depth_, cols_, cols_}, nullptr};
        }
        ring::gemm<W>(pairs, {out + n * c_words, rows_, cols_, cols_}, false, threads);
      }
    };
    if (pool.threads() == 1 || by_product(pool.threads())) return products(0, stack_, pool);
    const std::size_t one = std::max<std::size_t>(1, a_words * cols_ * packed_.size());
    const std::size_t grain = pool.grain_for(stack_, std::max<std::size_t>(1, kLeastWork / one));
    pool.parallel_for(stack_, grain, [&](std::size_t begin, std::size_t end) {
      ThreadPool alone(1);
      products(begin, end, alone);
    });
  }

  static constexpr std::size_t kPackRows = 2;
  // Multiply-adds of a product that is worth cutting, and of a task of small products.
  static constexpr std::size_t kLargeProduct = std::size_t{1} << 18;
  static constexpr std::size_t kLeastWork = std::size_t{1} << 16;

  std::size_t rows_ = 0, depth_ = 0, cols_ = 0;
  std::size_t stack_ = 1;  // products with a right matrix each
  std::vector<bool> constant_;
  std::vector<std::unique_ptr<ring::PackedMatrix<W>>> packed_;
};

template <class W>
class Linear::Impl::Convolution final : public Linear::Impl {
 public:
  Convolution(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant)
      : direct_(op, operands[0], operands[1]),
        x_words_(operands[0].lanes),
        w_words_(operands[1].lanes),
        y_words_(op.types[0].lanes),
        constant_(std::move(constant)) {
    packed_.resize(constant_.size() / 2);
    const std::size_t rank = operands[0].shape.size() - 2;
    use_ring_ = rank <= 2 && x_words_ != 0 && w_words_ != 0 && y_words_ != 0;
    if (use_ring_) describe(op, operands[0].shape, operands[1].shape, rank);
  }

  void pack(std::span<const std::byte* const> in) override {
    if (!use_ring_) return;
    if (joined_) {
      if (packed_[0]) return;
      std::vector<std::span<const W>> w;
      for (std::size_t i = 0; i < packed_.size(); ++i) w.push_back(weights(in[2 * i + 1]));
      packed_[0] = std::make_unique<ring::PackedConvWeights<W>>(shape_, w);
      return;
    }
    for (std::size_t i = 0; i < packed_.size(); ++i)
      if (constant_[2 * i + 1] && !packed_[i]) packed_[i] = packed_weights(in[2 * i + 1]);
  }

  void run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) override {
    W* y = reinterpret_cast<W*>(out);
    if (!use_ring_) {
      if (y_words_ != 0) std::memset(out, 0, checked_mul(y_words_, sizeof(W)));
      for (std::size_t i = 0; i + 1 < in.size(); i += 2)
        direct_.accumulate(reinterpret_cast<const W*>(in[i]), reinterpret_cast<const W*>(in[i + 1]),
                           y);
      return;
    }
    pack(in);
    if (joined_) {
      std::vector<std::span<const W>> x;
      for (std::size_t i = 0; i < packed_.size(); ++i) x.push_back(images(in[2 * i]));
      ring::conv2d<W>(shape_, x, *packed_[0], std::span(y, y_words_), false, pool);
      return;
    }
    std::vector<ring::ConvPair<W>> pairs;
    for (std::size_t i = 0; i < packed_.size(); ++i) {
      if (!constant_[2 * i + 1]) packed_[i] = packed_weights(in[2 * i + 1]);
      pairs.push_back({images(in[2 * i]), packed_[i].get()});
    }
    ring::conv2d<W>(shape_, pairs, std::span(y, y_words_), false, pool);
    for (std::size_t i = 0; i < packed_.size(); ++i)
      if (!constant_[2 * i + 1]) packed_[i].reset();
  }

  std::size_t packed_bytes() const noexcept override {
    std::size_t n = 0;
    for (const auto& p : packed_) n += p ? p->bytes() : 0;
    return n;
  }

  Demand demand(int threads) const override {
    Demand d;
    if (!use_ring_) {
      d.work = product_of(packed_.size(), direct_.work());
      return d;
    }
    d.ring = ring::conv2d_scratch<W>(shape_, packed_.size(), threads, nullptr, joined_);
    d.work = ring::conv2d_work(shape_, packed_.size());
    if (joined_) {
      // While they are packed, the weights stand beside each other.
      d.packed_bytes = ring::PackedConvWeights<W>::bytes_for(shape_, nullptr, packed_.size());
      d.temporary_bytes = checked_mul(packed_.size(), checked_mul(w_words_, sizeof(W)));
      return d;
    }
    const std::size_t one = ring::PackedConvWeights<W>::bytes_for(shape_);
    for (std::size_t i = 0; i < packed_.size(); ++i) {
      std::size_t& sum = constant_[2 * i + 1] ? d.packed_bytes : d.temporary_bytes;
      sum = checked_add(sum, one);
    }
    return d;
  }

 private:
  std::span<const W> weights(const std::byte* data) const {
    return {reinterpret_cast<const W*>(data), w_words_};
  }
  std::span<const W> images(const std::byte* data) const {
    return {reinterpret_cast<const W*>(data), x_words_};
  }
  std::unique_ptr<ring::PackedConvWeights<W>> packed_weights(const std::byte* data) const {
    return std::make_unique<ring::PackedConvWeights<W>>(shape_, weights(data));
  }

  // One-dimensional data are images of height 1.
  void describe(const Op& op, const Ints& x, const Ints& w, std::size_t rank) {
    const Ints& strides = op.attributes.integers("strides");
    const Ints& pads = op.attributes.integers("pads");
    const Ints& dilations = op.attributes.integers("dilations");
    const auto size = [](std::int64_t v) { return static_cast<std::size_t>(v); };
    const std::size_t last = rank - 1;
    shape_.batch = size(x[0]);
    shape_.in_channels = size(x[1]);
    shape_.in_width = size(x[2 + last]);
    shape_.out_channels = size(w[0]);
    shape_.kernel_width = size(w[2 + last]);
    shape_.stride_width = size(strides[last]);
    shape_.dilation_width = size(dilations[last]);
    shape_.pad_left = size(pads[last]);
    shape_.pad_right = size(pads[rank + last]);
    shape_.groups = size(op.attributes.integer("groups"));
    if (rank == 2) {
      shape_.in_height = size(x[2]);
      shape_.kernel_height = size(w[2]);
      shape_.stride_height = size(strides[0]);
      shape_.dilation_height = size(dilations[0]);
      shape_.pad_top = size(pads[0]);
      shape_.pad_bottom = size(pads[2]);
    }
    shape_.validate(packed_.size());
    bool all = packed_.size() > 1;
    for (std::size_t i = 0; i < packed_.size(); ++i) all = all && constant_[2 * i + 1];
    joined_ = all && ring::can_join<W>(shape_, packed_.size());
  }

  DirectConv<W> direct_;
  std::size_t x_words_, w_words_, y_words_;
  std::vector<bool> constant_;
  bool use_ring_ = false;
  bool joined_ = false;  // all weights are packed as one operand, packed_[0]
  ring::Conv2dShape shape_;
  std::vector<std::unique_ptr<ring::PackedConvWeights<W>>> packed_;
};

Linear::Linear(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant) {
  const bool wide = op.types.at(0).word() == 8;
  if (op.code == OpCode::Matmul) {
    if (wide)
      impl_ = std::make_unique<Impl::Matmul<std::uint64_t>>(operands, std::move(constant));
    else
      impl_ = std::make_unique<Impl::Matmul<std::uint32_t>>(operands, std::move(constant));
  } else if (op.code == OpCode::Conv) {
    if (wide)
      impl_ = std::make_unique<Impl::Convolution<std::uint64_t>>(op, operands, std::move(constant));
    else
      impl_ = std::make_unique<Impl::Convolution<std::uint32_t>>(op, operands, std::move(constant));
  } else {
    throw Error("E-graph-op", std::string(spec_of(op.code).name) + " is not linear");
  }
}

Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

void Linear::pack(std::span<const std::byte* const> in) { impl_->pack(in); }

void Linear::run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) {
  impl_->run(in, out, pool);
}

Demand Linear::demand(int threads) const { return impl_->demand(threads); }

std::size_t Linear::packed_bytes() const noexcept { return impl_->packed_bytes(); }

}  // namespace mpcc::kernels
