// A vector policy in plain C++: with one lane it is the portable variant; with more it lets tests
// run the shapes of wide instruction sets on any machine.
#pragma once

#include <cstddef>

#include "ring/gemm/generic.h"
#include "ring/gemm/kernel.h"

namespace mpcc::ring::internal {

template <RingWord W, int kN>
struct PlainVec {
  using Word = W;
  static constexpr std::size_t kLanes = kN;
  struct Vec {
    W v[kN];
  };
  using Acc = Vec;
  using Lhs = Vec;
  using Rhs = Vec;

  static Vec zero() { return Vec{}; }
  static Vec broadcast(const W* p) {
    Vec r;
    for (W& x : r.v) x = *p;
    return r;
  }
  static Vec lhs(Vec v) { return v; }
  static Vec rhs(Vec v) { return v; }
  static void mac(Vec& acc, const Vec& a, const Vec& b) {
    for (int i = 0; i < kN; ++i) acc.v[i] += a.v[i] * b.v[i];
  }
  static Vec finish(Vec v) { return v; }
  static Vec load(const W* p) { return load_part(p, kLanes); }
  static void store(W* p, const Vec& v) { store_part(p, v, kLanes); }
  static Vec load_part(const W* p, std::size_t n) {
    Vec r{};
    for (std::size_t i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  static void store_part(W* p, const Vec& v, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) p[i] = v.v[i];
  }
  static Vec add(Vec a, const Vec& b) {
    for (int i = 0; i < kN; ++i) a.v[i] += b.v[i];
    return a;
  }
  static Vec sub(Vec a, const Vec& b) {
    for (int i = 0; i < kN; ++i) a.v[i] -= b.v[i];
    return a;
  }
  static W sum(const Vec& v) {
    W s = 0;
    for (W x : v.v) s += x;
    return s;
  }
};

}  // namespace mpcc::ring::internal
