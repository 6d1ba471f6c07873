// Programs and reports of others: bodies are decoded once, what bytes unfold to is bounded, a plan
// is made in time, and the driver believes no report.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <thread>

#include "graph/cluster.h"
#include "graph/graphdef.h"
#include "graph/plan.h"
#include "graph/program.h"
#include "graph/report.h"
#include "kernels/limits.h"
#include "kernels/region.h"
#include "net/blame.h"
#include "net/tests/network.h"
#include "testing/random.h"

namespace mpcc::graph {
namespace {

using net::testing::contains;
using net::testing::error_of;
using namespace std::chrono_literals;

RawAttr text(std::string value) {
  RawAttr a;
  a.kind = RawAttr::Kind::text;
  a.text = std::move(value);
  return a;
}
RawAttr number(std::int64_t value, RawAttr::Kind kind = RawAttr::Kind::integer) {
  RawAttr a;
  a.kind = kind;
  a.integer = value;
  return a;
}
RawAttr list(std::vector<std::int64_t> integers, std::vector<std::string> texts = {}) {
  RawAttr a;
  a.kind = RawAttr::Kind::list;
  a.integers = std::move(integers);
  a.texts = std::move(texts);
  return a;
}

std::string numbered(char letter, std::size_t n) {
  std::string name(1, letter);
  return name.append(std::to_string(n));
}
std::string bits(std::size_t lanes, std::size_t planes, const std::string& place = "P0") {
  std::string type("bits<");
  return type.append(std::to_string(lanes))
      .append("x")
      .append(std::to_string(planes))
      .append(">@")
      .append(place);
}

constexpr std::int64_t kUint8 = 4;  // what a node says of bits

// A program that grows node by node.
struct Writer {
  Writer() {
    RawNode header{"program", "MpccProgram", "", {}, {{"_attrs", text("{}")}}};
    graph.nodes.push_back(std::move(header));
    graph.producer = 2000;
  }

  static std::string device(const std::string& place) {
    const bool party = place[0] == 'P';
    std::string name("/job:");
    return name.append(party ? "party" : place)
        .append("/replica:0/task:")
        .append(1, party ? place[1] : '0')
        .append("/device:CPU:0");
  }

  // The number of the new node.
  std::size_t add(const std::string& op, const std::string& place, std::vector<std::string> inputs,
                  std::vector<std::pair<std::string, RawAttr>> attrs,
                  const std::vector<std::string>& types, std::int64_t dtype = kUint8) {
    const std::size_t n = graph.nodes.size() - 1;
    attrs.emplace_back("_types", list({}, types));
    attrs.emplace_back("T", number(dtype, RawAttr::Kind::type));
    graph.nodes.push_back(
        {numbered('n', n), op, device(place), std::move(inputs), std::move(attrs)});
    return n;
  }
  std::size_t draw(std::int64_t stream, const std::string& place, std::size_t lanes,
                   std::size_t planes = 8) {
    return add("MpccDrawBits", place, {},
               {{"key", text("P0+P1")},
                {"stream", number(stream)},
                {"phase", text("online")},
                {"place", text(place)},
                {"lanes", number(static_cast<std::int64_t>(lanes))},
                {"planes", number(static_cast<std::int64_t>(planes))}},
               {bits(lanes, planes, place)});
  }
  std::size_t transfer(std::size_t of, const std::string& to, std::size_t lanes) {
    return add("MpccTransfer", to, {numbered('n', of)}, {{"to", text(to)}, {"step", text("step")}},
               {bits(lanes, 8, to)});
  }
  // Regions one after another, all with one body that turns `planes` planes around.
  void fuse(std::size_t planes, std::size_t times) {
    RawFunction f;
    f.name = "fused_0";
    f.inputs = {{"a0", kUint8}};
    f.outputs = {{"r0", kUint8}};
    std::vector<std::int64_t> indices(planes);
    for (std::size_t i = 0; i < planes; ++i)
      indices[i] = static_cast<std::int64_t>((i + 1) % planes);
    f.nodes.push_back({"b0",
                       "MpccPlanes",
                       "",
                       {"a0"},
                       {{"indices", list(std::move(indices))},
                        {"_types", list({}, {bits(1, planes)})},
                        {"T", number(kUint8, RawAttr::Kind::type)}}});
    f.results = {{"r0", "b0:out:0"}};
    graph.functions = {std::move(f)};
    RawAttr name;
    name.kind = RawAttr::Kind::function;
    name.text = "fused_0";
    std::size_t last = draw(1, "P0", 1, planes);
    for (std::size_t i = 0; i < times; ++i)
      last = add("MpccFused", "P0", {numbered('n', last)}, {{"f", name}}, {bits(1, planes)});
  }

  Program load() const {
    const std::string bytes = write_graphdef(graph);
    return load_program(std::as_bytes(std::span(bytes)));
  }

  RawGraph graph;
};

TEST_CASE("uses of a body share it") {
  Writer w;
  w.fuse(100, 3);
  const Program program = w.load();
  REQUIRE(program.ops.size() == 4);
  CHECK(program.ops[1].body->ops.size() == 1);
  CHECK(program.ops[1].body == program.ops[2].body);
  CHECK(program.ops[1].body == program.ops[3].body);
}

TEST_CASE("a few bytes that stand for very much are refused before they are unfolded") {
  // The body has a few more items than planes.
  constexpr std::size_t kMostUses = kMaxItems / kMaxPlanes - 1;
  Writer most;
  most.fuse(kMaxPlanes, kMostUses);
  CHECK(most.load().ops.size() == kMostUses + 1);
  Writer more;
  more.fuse(kMaxPlanes, kMostUses + 1);
  const Error error = error_of([&] { more.load(); });
  CHECK(error.code() == "E-graph-limit");
  CHECK(contains(error.message(), "items of the program"));

  // Lists of empty strings, two bytes each.
  Writer strings;
  for (std::size_t i = 0; i <= kMaxItems / kMaxList; ++i)
    strings.add("MpccAdd", "P0", {}, {}, std::vector<std::string>(kMaxList));
  CHECK(contains(error_of([&] { strings.load(); }).message(), "items of the program"));

  // Nested attributes, whose items stand in a string.
  Writer nested;
  std::string brackets = "[[0]";
  for (std::size_t i = 0; i < kMaxList / 2; ++i) brackets += ",[0]";
  for (std::size_t i = 0; i <= kMaxItems / kMaxList; ++i)
    nested.add("MpccAnf", "P0", {}, {{"terms", text(brackets + "]")}}, {"bits<1x1>@P0"});
  CHECK(contains(error_of([&] { nested.load(); }).message(), "items of the program"));
}

TEST_CASE("a plan of values that leave holes everywhere: none overlaps while it lives") {
  // Values of many sizes, of which every second one ends before the others do.
  const auto lanes = [](std::size_t i) { return 600 + 64 * (i * 37 % 700); };
  Writer w;
  std::vector<std::size_t> held;
  for (std::size_t i = 0; i < 1500; ++i) {
    const std::size_t there = w.draw(static_cast<std::int64_t>(i) + 1, "P1", lanes(i));
    const std::size_t here = w.transfer(there, "P0", lanes(i));
    held.push_back(w.add("MpccJoin", "P0", {numbered('n', here)}, {}, {bits(lanes(i), 8)}));
  }
  for (const std::size_t first : {0U, 1U})
    for (std::size_t i = first; i < held.size(); i += 2)
      (void)w.add("MpccJoin", "P0", {numbered('n', held[i])}, {}, {bits(lanes(i), 8)});
  const Program program = w.load();
  const Plan plan = make_plan(program, default_endpoints(), 0);
  struct Interval {
    std::size_t begin, end;
    std::uint32_t value;
  };
  std::vector<Interval> alive;
  std::size_t most = 0;
  for (const Action& a : plan.online.actions) {
    for (const std::uint32_t v : program.ops[a.op].results) {
      if (a.kind != Action::Kind::compute) continue;
      REQUIRE(plan.home[v] == Home::arena);
      const Interval added{plan.offset[v], plan.offset[v] + program.values[v].bytes(), v};
      CHECK(added.end <= plan.online.arena_bytes);
      CHECK(std::ranges::none_of(alive, [&](const Interval& other) {
        return added.begin < other.end && other.begin < added.end;
      }));
      alive.push_back(added);
    }
    most = std::max(most, alive.size());
    for (const std::uint32_t v : a.ends)
      std::erase_if(alive, [v](const Interval& i) { return i.value == v; });
  }
  CHECK(most > 700);
}

TEST_CASE("a slice in one piece is a part of its operand's bytes") {
  constexpr std::int64_t kUint64 = 23;  // what a node says of words
  Writer w;
  const auto ring = [](const std::string& shape, const std::string& place = "P0") {
    return "ring64<" + shape + ">@" + place;
  };
  const auto slice = [&](std::size_t of, std::vector<std::int64_t> starts,
                         std::vector<std::int64_t> limits, const std::string& shape,
                         std::int64_t step = 1) {
    return w.add("MpccSlice", "P0", {numbered('n', of)},
                 {{"starts", list(std::move(starts))},
                  {"limits", list(std::move(limits))},
                  {"strides", list({step, 1})}},
                 {ring(shape)}, kUint64);
  };
  const auto draw = [&](std::int64_t stream, const std::string& phase) {
    return w.add("MpccDrawRing", "P0", {},
                 {{"key", text("P0+P1")},
                  {"stream", number(stream)},
                  {"phase", text(phase)},
                  {"place", text("P0")},
                  {"shape", list({32, 8})},
                  {"ring", number(64)}},
                 {ring("32x8")}, kUint64);
  };
  const std::size_t x = draw(1, "online");
  const std::size_t rows = slice(x, {4, 0}, {20, 8}, "16x8");
  const std::size_t inner = slice(rows, {2, 0}, {10, 8}, "8x8");
  const std::size_t part = slice(x, {5, 2}, {6, 8}, "1x6");  // in one piece, but little
  const std::size_t columns = slice(x, {0, 0}, {32, 4}, "32x4");
  const std::size_t strided = slice(x, {0, 0}, {32, 8}, "16x8", 2);
  const std::size_t sent = slice(x, {0, 0}, {16, 8}, "16x8");
  (void)w.add("MpccTransfer", "P1", {numbered('n', sent)},
              {{"to", text("P1")}, {"step", text("step")}}, {ring("16x8", "P1")}, kUint64);
  const std::size_t kept = draw(2, "setup");
  const std::size_t of_kept = slice(kept, {0, 0}, {16, 8}, "16x8");
  const Program program = w.load();
  const Plan plan = make_plan(program, default_endpoints(), 0);
  const auto where = [&](std::size_t node) {
    const std::uint32_t v = program.ops[node].results[0];
    return std::pair{program.producer[plan.root[v]], plan.shift[v]};
  };
  using Where = std::pair<std::uint32_t, std::size_t>;
  CHECK(where(rows) == Where{x, 4 * 64});
  CHECK(where(inner) == Where{x, 6 * 64});
  for (const std::size_t own : {x, part, columns, strided, sent, kept, of_kept})
    CHECK(where(own) == Where{own, 0});
  // They end with their last use: nothing is given free before or left behind.
  std::vector<std::uint32_t> ended;
  for (const Action& a : plan.online.actions) {
    if (a.kind == Action::Kind::alias) {
      const std::uint32_t root = plan.root[program.ops[a.op].operands[0]];
      CHECK(std::ranges::find(ended, root) == ended.end());
    }
    ended.insert(ended.end(), a.ends.begin(), a.ends.end());
  }
  CHECK(std::ranges::find(ended, program.ops[x].results[0]) != ended.end());
}

TEST_CASE("a result is written over an operand that nobody needs any more") {
  Writer w;
  const auto negated = [&](std::size_t x) {
    return w.add("MpccNot", "P0", {numbered('n', x)}, {}, {bits(600, 8)});
  };
  const auto both = [&](std::size_t x, std::size_t y) {
    return w.add("MpccXor", "P0", {numbered('n', x), numbered('n', y)}, {}, {bits(600, 8)});
  };
  const std::size_t x = w.draw(1, "P0", 600);
  const std::size_t first = negated(x);            // x is used again
  const std::size_t second = both(first, x);       // over `first`
  const std::size_t third = negated(second);       // and again
  (void)w.transfer(third, "P1", 600);              // which is sent then
  const std::size_t fourth = negated(third);       // the transport may still read it
  const std::size_t twice = both(fourth, fourth);  // two operands in one buffer
  const std::size_t there = w.draw(2, "P1", 600);
  const std::size_t arrived = w.transfer(there, "P0", 600);
  const std::size_t over = both(arrived, twice);  // over what has arrived
  const std::size_t joined = w.add("MpccJoin", "P0", {numbered('n', over)}, {}, {bits(600, 8)});
  const Program program = w.load();
  const Plan plan = make_plan(program, default_endpoints(), 0);
  const auto root = [&](std::size_t node) {
    return program.producer[plan.root[program.ops[node].results[0]]];
  };
  const auto home = [&](std::size_t node) { return plan.home[program.ops[node].results[0]]; };
  CHECK(root(first) == first);
  CHECK(root(second) == first);
  CHECK(root(third) == first);
  CHECK(home(first) == Home::outgoing);
  CHECK(home(third) == Home::none);
  CHECK(root(fourth) == fourth);
  CHECK(root(twice) == twice);
  CHECK(root(over) == arrived);
  CHECK(home(arrived) == Home::message);
  CHECK(root(joined) == joined);  // copies planes: not a plane at a time
  for (const Action& a : plan.online.actions)
    for (const std::uint32_t v : a.ends) CHECK(plan.root[v] == v);
}

Op elementwise(OpCode code, std::vector<std::uint32_t> operands, const ValueType& type) {
  Op op;
  op.code = code;
  op.operands = std::move(operands);
  op.types = {type};
  for (const AttrSpec& a : spec_of(code).attributes)
    op.attributes.set(std::string(a.name), std::int64_t{5});
  return op;
}

// Whether the op gives the same where its result is written over that operand.
bool same_in_place(const kernels::Region& region, std::span<const ValueType> types,
                   const ValueType& result, std::size_t over) {
  mpcc::testing::TestRandom random(7);
  std::vector<std::vector<std::byte>> buffers;
  for (const ValueType& t : types) buffers.push_back(random.bytes(t.bytes()));
  std::vector<const std::byte*> in;
  for (const auto& b : buffers) in.push_back(b.data());
  std::vector<std::byte> expected(result.bytes());
  std::byte* out[] = {expected.data()};
  ThreadPool pool(2);
  region.run(in, out, {}, pool);
  out[0] = buffers[over].data();
  region.run(in, out, {}, pool);
  return buffers[over] == expected;
}

TEST_CASE("what may be written over an operand gives the same there") {
  const std::size_t lanes = 9 * kBlockLanes + 77;  // more than one block of the interpreter
  const auto bit = ValueType::bit_planes(static_cast<std::int64_t>(lanes), 1, Place::P0);
  const auto planes = ValueType::bit_planes(static_cast<std::int64_t>(lanes), 5, Place::P0);
  std::size_t allowed = 0;
  for (const std::int64_t word : {64, 32}) {
    const auto ring = ValueType::ring({static_cast<std::int64_t>(lanes)}, word, Place::P0);
    for (const OpCode code :
         {OpCode::Add, OpCode::Sub, OpCode::Mul, OpCode::Neg, OpCode::AddConst, OpCode::MulConst,
          OpCode::ShiftLeft, OpCode::ShiftRight, OpCode::LowBits, OpCode::MaskBy, OpCode::NegateIf,
          OpCode::Xor, OpCode::And, OpCode::Not, OpCode::Join}) {
      const bool bits =
          code == OpCode::Xor || code == OpCode::And || code == OpCode::Not || code == OpCode::Join;
      const bool masks = code == OpCode::MaskBy || code == OpCode::NegateIf;
      const ValueType& type = bits ? planes : ring;
      std::vector<ValueType> types = {masks ? bit : type};
      if (masks || code == OpCode::Mul || spec_of(code).least == 2) types.push_back(type);
      std::vector<std::uint32_t> operands(types.size());
      for (std::uint32_t i = 0; i < operands.size(); ++i) operands[i] = i;
      const Op op = elementwise(code, operands, type);
      const kernels::Region region(op, types);
      for (std::size_t k = 0; k < types.size(); ++k) {
        INFO(std::string(spec_of(code).name), " over operand ", k);
        if (!kernels::InPlace(op).may_overwrite(k, 0)) continue;
        ++allowed;
        CHECK(same_in_place(region, types, type, k));
      }
    }
  }
  CHECK(allowed == 2 * 17);

  // (x - y) + x: x is read again after the difference, not after the sum.
  const auto ring = ValueType::ring({static_cast<std::int64_t>(lanes)}, 64, Place::P0);
  Body body;
  body.arguments = {ring, ring};
  body.ops = {elementwise(OpCode::Sub, {0, 1}, ring), elementwise(OpCode::Add, {2, 0}, ring)};
  body.results = {3};
  for (const std::size_t k : {0U, 1U})
    CHECK(same_in_place(kernels::Region(body), body.arguments, ring, k));
  const auto may = [&](std::size_t operand, std::size_t result) {
    Op fused;
    fused.body = std::make_shared<const Body>(body);
    return kernels::InPlace(fused).may_overwrite(operand, result);
  };
  CHECK(may(0, 0));
  CHECK(may(1, 0));
  body.results = {2, 3};
  CHECK_FALSE(may(0, 0));
  CHECK(may(1, 0));
  CHECK(may(0, 1));
  CHECK(may(1, 1));
  body.results = {3, 1};  // y itself is handed on
  CHECK(may(0, 0));
  CHECK_FALSE(may(1, 0));
  CHECK_FALSE(may(1, 1));
}

// Two messages of P0 to P1 in a run.
Program sending_program() {
  Writer w;
  for (const std::int64_t stream : {1, 2}) (void)w.transfer(w.draw(stream, "P0", 1), "P1", 1);
  return w.load();
}

TEST_CASE("a report says what the program says, or is refused") {
  const Program program = sending_program();
  const auto read = [&](const std::string& json, Place place = Place::P0) {
    return read_report(std::as_bytes(std::span(json)), program, {place}, true);
  };
  const auto report = [](const std::string& sent, const std::string& messages,
                         const std::string& rounds, const std::string& rss = "1",
                         const std::string& wire = "2") {
    return R"({"bytes_sent":{)" + sent + R"(},"messages":)" + messages + R"(,"rounds":)" + rounds +
           R"(,"rss":)" + rss + R"(,"wire":)" + wire + R"(,"seconds":1.5})";
  };
  const std::string sent = R"("0->1":16)";
  const PhaseReport good = read(report(sent, "2", "1"));
  CHECK(good.bytes_sent == std::map<std::string, std::uint64_t>{{"0->1", 16}});
  CHECK(good.messages == 2);
  CHECK(good.rounds == 1);
  CHECK(good.rss_bytes == 1);
  CHECK(good.wire_bytes == 2);
  CHECK(read(report("", "0", "0"), Place::P1).messages == 0);
  for (const std::string& bad : {
           std::string(),
           std::string("[]"),
           std::string("{}"),
           report(sent, "2", "4294967295"),
           report(sent, "2", "1e300"),
           report(sent, "2", "-1"),
           report(sent, "2", "true"),
           report(sent, "2.0", "1"),
           report(sent, "3", "1"),
           report(R"("0->1":18446744073709551615)", "2", "1"),
           report(R"("0->1":17)", "2", "1"),
           report(R"("0->1":0)", "2", "1"),
           report(sent + R"(,"\u001b[2J":0)", "2", "1"),
           report(sent + R"(,"1->0":0)", "2", "1"),
           report(R"("\u001b[2J":16)", "2", "1"),
           report(sent, "2", "1", "1e300"),
           report(sent, "2", "1", "18446744073709551615"),
           report(sent, "2", "1", "1", "18446744073709551615"),
           report(sent, "2", "1", "1", "\"2\""),
           report(sent, "2", "1").substr(0, 40),
       }) {
    INFO(bad);
    CHECK(error_of([&] { read(bad); }).code() == "E-net-frame");
  }
}

TEST_CASE("the driver names whose report it refuses, and tells the others") {
  Writer w;
  const std::size_t x =
      w.add("MpccInput", "client", {},
            {{"name", text("x")}, {"shape", list({4})}, {"place", text("client")}},
            {"clear<4xf32>@client"}, 1);
  (void)w.add("MpccOutput", "client", {numbered('n', x)}, {{"name", text("y")}}, {}, 1);
  const Program program = w.load();
  const std::string good = R"({"bytes_sent":{},"messages":0,"rounds":0,"rss":1,"wire":1})";
  const std::string bad = R"({"bytes_sent":{},"messages":0,"rounds":4294967295,"rss":1,"wire":1})";
  auto network = net::make_in_memory_network(default_endpoints(), net::testing::test_options());
  std::vector<Error> heard(3, Error("", ""));
  std::vector<std::thread> parties;
  for (std::uint32_t i = 0; i < 3; ++i)
    parties.emplace_back([&, i] {
      heard[i] = error_of([&] {
        network[i]->expect(0, {});
        const std::string& said = i == 1 ? bad : good;
        network[i]->send_control(3, net::FrameKind::go, 0, std::as_bytes(std::span(said)));
        network[i]->wait_ready(1);
      });
    });
  Engine driver(program, *network[3], {});
  const Error error = error_of([&] { driver.setup({}); });
  for (auto& t : parties) t.join();
  CHECK(error.code() == "E-net-frame");
  for (const Error& e : {error, heard[0], heard[2]}) {
    INFO(std::string(e.what()));
    const auto blame = net::find_blame(e);
    REQUIRE(blame);
    CHECK(blame->party == "P1");
    CHECK(blame->step == "run 0, report");
  }
}

}  // namespace
}  // namespace mpcc::graph
