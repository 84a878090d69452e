// Streams of frames out of a window that moves: every frame is, bit for bit, what a plain run makes
// of it, wherever it stood; the calls for parts of a window; what is refused.

#include "catch.hpp"
#include "sliced_support.hpp"

#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sliced.hpp>
#include <diffusion/video/forcing.hpp>
#include <diffusion/video/lookahead.hpp>
#include <diffusion/video/rolling.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

using namespace diffusion;
using support::Random;
using support::same_bits;

namespace {

template <class S>
using Frames =
    Eigen::Tensor<S, 3, Eigen::RowMajor>;  // (frame, height, width) or (clip, frame, size)

/// A network that treats frames alone: what it answers depends on the element in the frame.
/// `inner` elements of a frame lie together; frames come one behind the other.
struct FrameNetwork {
  std::size_t frames, size;
  template <class T>
  void operator()(const T& x, const Query& query, TensorOf<T>& out) const {
    for (std::size_t i = 0; i < static_cast<std::size_t>(x.size()); ++i) {
      const double t = query.times.empty() ? query.t : query.times[i / size];
      out.data()[i] =
          static_cast<ScalarOf<T>>(support::answer(static_cast<double>(x.data()[i]), t, i % size));
    }
  }
};

SamplingPlan ddim(int steps, double eta = 0) {
  return DdimSampler{NoiseSchedule<>::linear(), {.steps = steps, .eta = eta}}.plan();
}

template <class S>
bool holds(const Frames<S>& frame, const S* expected) {
  return std::equal(frame.data(), frame.data() + frame.size(), expected);
}

}  // namespace

TEMPLATE_TEST_CASE("A frame of the stream is what a plain run makes of its noise, by any sampler",
                   "", float, double) {
  using Tensor = Frames<TestType>;
  int turn = 0;
  for (const auto& entry : sliced::zoo_plans()) {
    const std::string& name = entry.name;
    const SamplingPlan& plan = entry.plan;
    const int lag = 1 + turn % 3, block = 1 + turn % 2, context = turn % 4;
    const int window = context + block * ((plan.steps() + lag - 1) / lag) + turn % 2;
    ++turn;
    CAPTURE(name, lag, block, context, window);
    const FrameNetwork network{static_cast<std::size_t>(window), 5 * 7};
    const Tensor plain = sample<Tensor>(plan, FrameNetwork{1, 35}, {14, 5, 7}, PhiloxNoise{5});
    FrameQueue<Tensor, PhiloxNoise> queue(plan, {window, 5, 7}, 0, PhiloxNoise{5},
                                          {.lag = lag,
                                           .block = static_cast<std::size_t>(block),
                                           .context = static_cast<std::size_t>(context)});
    for (int k = 0; k < 14; ++k) {
      const Tensor frame = queue.next(network);
      CHECK(frame.dimension(0) == 1);
      CHECK(frame.dimension(1) == 5);
      CHECK(holds(frame, plain.data() + k * 35));
      CHECK(queue.next_frame() == static_cast<std::uint64_t>(k + 1));
      CHECK(queue.front() == static_cast<std::uint64_t>(std::max(0, k + 1 - context)));
    }
  }
}

TEST_CASE("Frames along an inner dimension are streams of their own, of noise by frame") {
  // (clip, frame, size): stream b of 2 has for frame n the noise of sample 2 n + b.
  using Tensor = Frames<double>;
  const SamplingPlan plan = ddim(6, 1);
  const Tensor plain = sample<Tensor>(plan, FrameNetwork{1, 19}, {20, 1, 19}, PhiloxNoise{5});
  FrameQueue<Tensor, PhiloxNoise> queue(plan, {2, 3, 19}, 1, PhiloxNoise{5}, {.lag = 2});
  for (int k = 0; k < 10; ++k) {
    const Tensor frames = queue.next(FrameNetwork{3, 19});
    CHECK(frames.dimension(0) == 2);
    CHECK(frames.dimension(1) == 1);
    CHECK(holds(frames, plain.data() + 2 * k * 19));
  }
  // (channel, frame, width), one stream: a frame is several stretches of memory.
  FrameQueue<Tensor, PhiloxNoise> clip(plan, {2, 6, 9}, 1, PhiloxNoise{5}, {}, {.batch = false});
  const auto network = [](const Tensor& x, const Query& query, Tensor& out) {
    for (Eigen::Index c = 0; c < 2; ++c)
      for (Eigen::Index k = 0; k < 6; ++k)
        for (Eigen::Index i = 0; i < 9; ++i) {
          const double t = query.times.empty() ? query.t : query.times[static_cast<std::size_t>(k)];
          out(c, k, i) = support::answer(x(c, k, i), t, static_cast<std::size_t>(c * 9 + i));
        }
  };
  const Tensor alone = sample<Tensor>(plan, FrameNetwork{1, 18}, {8, 2, 9}, PhiloxNoise{5});
  for (int k = 0; k < 8; ++k) CHECK(holds(clip.next(network), alone.data() + k * 18));
}

TEST_CASE("FIFO asks once a frame when the window is full, and one step apart") {
  const SamplingPlan plan = ddim(8);
  FrameQueue<Frames<float>, PhiloxNoise> queue(plan, {8, 2, 2}, 0, PhiloxNoise{1});
  const FrameNetwork network{8, 4};
  CHECK(queue.frames() == 8);
  queue.next(network);
  CHECK(queue.ticks() == 8);
  for (int k = 1; k < 5; ++k) {
    for (std::size_t slot = 0; slot < 8; ++slot)
      CHECK(queue.step(slot) == 7 - static_cast<int>(slot));
    CHECK(queue.asks());
    CHECK(queue.query().times.size() == 8);
    CHECK(queue.query().samples == 8);
    CHECK_THROWS_WITH(queue.pop(), contains("not finished"));
    network(queue.input(), queue.query(), queue.output());
    queue.advance();
    CHECK(queue.ready());
    CHECK_THROWS_WITH(queue.advance(), contains("pop it"));
    queue.pop();
    CHECK(queue.ticks() == 8 + k);
  }
}

TEST_CASE("Known frames stay in the window as context, and the stream goes on from them") {
  const SamplingPlan plan = ddim(4);
  Frames<double> clip(8, 1, 3);
  clip.setConstant(0.125);
  FrameQueue<Frames<double>, PhiloxNoise> queue(plan, {8, 1, 3}, 0, PhiloxNoise{1},
                                                {.lag = 2, .context = 3});
  queue.continue_from(clip, 3);
  CHECK(queue.next_frame() == 3);
  double seen = 0;
  const FrameNetwork inner{8, 3};
  const auto network = [&](const Frames<double>& x, const Query& query, Frames<double>& out) {
    inner(x, query, out);
    if (queue.front() == 0) {
      for (Eigen::Index i = 0; i < 9; ++i) CHECK(x.data()[i] == 0.125);
      for (std::size_t k = 0; k < 3; ++k) CHECK(query.levels[k].sigma == 0);
    }
    seen = x(2, 0, 0);
  };
  const Frames<double> plain =
      sample<Frames<double>>(plan, FrameNetwork{1, 3}, {9, 1, 3}, PhiloxNoise{1});
  const Frames<double> third = queue.next(network);
  CHECK(holds(third, plain.data() + 9));
  CHECK(queue.front() == 1);
  queue.next(network);
  CHECK(seen == third(0, 0, 0));  // the frame that was handed out is still seen
}

TEST_CASE("A warm window is data at the levels of the stream's middle") {
  const int steps = 6;
  const SamplingPlan plan = ddim(steps);
  Frames<double> data = support::tensor_of<Frames<double>>({6, 1, 3}, Random(3).normals(18));
  FrameQueue<Frames<double>, PhiloxNoise> queue(plan, {6, 1, 3}, 0, PhiloxNoise{5});
  queue.warm_up(data);
  for (std::size_t slot = 0; slot < 6; ++slot) {
    const int step = steps - 1 - static_cast<int>(slot);
    CHECK(queue.step(slot) == step);
    std::vector<double> noise(3);
    PhiloxNoise{5}.fill(slot, 0, 0, std::span<double>(noise));
    for (std::size_t i = 0; i < 3; ++i) {
      const Knot& at = plan[step].at;
      const double expected =
          step == 0 ? noise[i] : at.alpha * data.data()[slot * 3 + i] + at.sigma * noise[i];
      CHECK(queue.window().data()[slot * 3 + i] == Approx(expected).epsilon(1e-15));
    }
  }
  const FrameNetwork network{6, 3};
  for (int k = 0; k < 4; ++k) {
    queue.next(network);
    CHECK(queue.ticks() == k + 1);  // a frame each tick from the start
  }
  // With exact knowledge of the data the stream gives it back.
  FrameQueue<Frames<double>, PhiloxNoise> known(plan, {6, 1, 3}, 0, PhiloxNoise{5}, {},
                                                {.prediction_type = PredictionType::sample});
  known.warm_up(data);
  for (int k = 0; k < 6; ++k) {
    const auto first = static_cast<std::size_t>(known.front());
    const Frames<double> frame =
        known.next([&](const Frames<double>&, const Query&, Frames<double>& out) {
          for (std::size_t i = 0; i < 18; ++i) out.data()[i] = data.data()[(first * 3 + i) % 18];
        });
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(frame.data()[i] == Approx(data.data()[static_cast<std::size_t>(k) * 3 + i]));
  }
}

TEST_CASE("The window moves exactly as a schedule of the same lag does") {
  // A network that sees its neighbours: the first frames, before anything has left a long window,
  // are those of a sliced run by the pyramid schedule.
  const SamplingPlan plan = ddim(4, 1);
  const auto network = [](const Frames<double>& x, const Query& query, Frames<double>& out) {
    for (Eigen::Index k = 0; k < x.dimension(0); ++k)
      for (Eigen::Index i = 0; i < 3; ++i) {
        const double t = query.times.empty() ? query.t : query.times[static_cast<std::size_t>(k)];
        const double before = k > 0 ? x(k - 1, 0, i) : 0;
        out(k, 0, i) = std::sin(x(k, 0, i) + 0.01 * t) + 0.3 * before;
      }
  };
  const Frames<double> clip = sample_sliced<Frames<double>>(
      plan, network, {6, 1, 3}, PhiloxNoise{5}, Slices::samples(), pyramid(4, 6, 2));
  FrameQueue<Frames<double>, PhiloxNoise> queue(plan, {6, 1, 3}, 0, PhiloxNoise{5},
                                                {.lag = 2, .context = 4});
  for (int k = 0; k < 4; ++k) CHECK(holds(queue.next(network), clip.data() + 3 * k));
}

TEST_CASE("A window is asked in parts, each frame with its own time and the newest look ahead") {
  using Tensor = Frames<double>;
  struct Call {
    std::vector<double> first;  ///< of each frame, which says which it is
    std::size_t samples;
  };
  std::vector<Call> calls;
  const auto network = [&](const Tensor& x, const Query& query, Tensor& out) {
    Call call{{}, query.samples};
    for (Eigen::Index k = 0; k < x.dimension(0); ++k) {
      call.first.push_back(x(k, 0, 0));
      CHECK(query.times[static_cast<std::size_t>(k)] == 100 * x(k, 0, 0));
      CHECK(query.levels[static_cast<std::size_t>(k)].t == 100 * x(k, 0, 0));
      for (Eigen::Index i = 0; i < 6; ++i)
        out.data()[k * 6 + i] = x.data()[k * 6 + i] + 1000 * static_cast<double>(calls.size());
    }
    calls.push_back(call);
  };
  Tensor x(8, 2, 3), out(8, 2, 3);
  std::vector<double> times;
  std::vector<Knot> levels;
  for (Eigen::Index k = 0; k < 8; ++k) {
    for (Eigen::Index i = 0; i < 6; ++i) x.data()[k * 6 + i] = static_cast<double>(k);
    times.push_back(100.0 * static_cast<double>(k));
    levels.push_back({times.back(), 1, 0});
  }
  Query query{.samples = 8};
  query.times = times;
  query.levels = levels;
  for (const bool lookahead : {false, true}) {
    calls.clear();
    LookaheadDenoiser parts(network, {.dimension = 0, .frames = 4, .lookahead = lookahead});
    parts(x, query, out);
    REQUIRE(calls.size() == (lookahead ? 3u : 2u));
    CHECK(calls[0].samples == 4);
    CHECK(calls[1].first ==
          (lookahead ? std::vector<double>{2, 3, 4, 5} : std::vector<double>{4, 5, 6, 7}));
    for (Eigen::Index k = 0; k < 8; ++k) {
      const double call = lookahead ? std::max(0.0, std::floor((static_cast<double>(k) - 2) / 2))
                                    : std::floor(static_cast<double>(k) / 4);
      CHECK(out(k, 1, 2) == static_cast<double>(k) + 1000 * call);
    }
  }
  // Frames of an inner dimension: (clip, frame, size), times by clip and frame.
  const auto inner = [](const Tensor& z, const Query& q, Tensor& to) {
    REQUIRE(z.dimension(1) == 2);
    REQUIRE(q.times.size() == 4);
    CHECK(q.samples == 2);
    for (Eigen::Index b = 0; b < 2; ++b)
      for (Eigen::Index k = 0; k < 2; ++k) {
        CHECK(q.times[static_cast<std::size_t>(b * 2 + k)] == z(b, k, 0));
        for (Eigen::Index i = 0; i < 3; ++i) to(b, k, i) = -z(b, k, i);
      }
  };
  Tensor y(2, 4, 3), answer(2, 4, 3);
  times.clear();
  for (Eigen::Index i = 0; i < 8; ++i) {
    times.push_back(static_cast<double>(i));
    for (Eigen::Index k = 0; k < 3; ++k) y.data()[i * 3 + k] = static_cast<double>(i);
  }
  Query both{.samples = 2};
  both.times = times;
  LookaheadDenoiser halves(inner, {.dimension = 1, .frames = 2, .lookahead = true});
  halves(y, both, answer);
  for (Eigen::Index i = 0; i < 24; ++i) CHECK(answer.data()[i] == -y.data()[i]);
}

TEST_CASE("What a queue cannot do is refused with the numbers") {
  using Tensor = Frames<double>;
  using Queue = FrameQueue<Tensor, PhiloxNoise>;
  const SamplingPlan plan = ddim(6);
  const SamplingPlan multistep =
      make_plan(make_grid(NoiseSchedule<>::linear(), 6, {}), DpmSolverOptions{.order = 2});
  const FrameNetwork network{6, 3};
  const auto make = [&](Eigen::Index frames, FrameQueueOptions options, int dimension = 0) {
    return Queue(plan, {frames, 1, 3}, dimension, PhiloxNoise{1}, options);
  };
  const auto ask_parts = [&](Eigen::Index window, LookaheadOptions options) {
    Tensor x(window, 1, 3), out(window, 1, 3);
    x.setZero();
    LookaheadDenoiser<FrameNetwork> parts(network, options);
    parts(x, Query{.samples = static_cast<std::size_t>(window)}, out);
  };
  struct Row {
    std::function<void()> act;
    std::vector<std::string> says;
  };
  const Row table[] = {
      {[&] { make(5, {}); }, {"5 frames", "6 steps", "at least 6"}},
      {[&] { make(2, {.lag = 2}); }, {"2 frames", "lag of 2", "at least 3"}},
      {[&] { make(7, {.lag = 3, .block = 4}); }, {"7 frames", "blocks of 4", "at least 8"}},
      {[&] { make(7, {.context = 2}); }, {"7 frames", "at least 8", "context"}},
      {[&] { make(6, {.lag = 0}); }, {"lag is 0", "at least 1"}},
      {[&] { make(6, {.block = 0}); }, {"block is 0", "at least 1"}},
      {[&] { make(6, {}, 3); }, {"dimension 3", "6x1x3"}},
      {[&] { make(6, {}, -1); }, {"-1", "at least 0"}},
      {[&] { make(0, {}); }, {"0x1x3", "at least 1"}},
      {[&] { make(7, {.context = 1}).continue_from(Tensor(7, 1, 3), 2); }, {"is 2", "[0, 1]"}},
      {[&] { make(7, {.context = 1}).continue_from(Tensor(6, 1, 3), 1); }, {"6x1x3", "7x1x3"}},
      {[&] { make(6, {}).warm_up(Tensor(5, 1, 3)); }, {"5x1x3", "6x1x3"}},
      {[&] {
         Queue queue = make(6, {});
         queue.next(network);
         queue.warm_up(Tensor(6, 1, 3));
       },
       {"before the first tick"}},
      {[&] {
         Tensor data(6, 1, 3);
         data.setZero();
         Queue(multistep, {6, 1, 3}, 0, PhiloxNoise{1}).warm_up(data);
       },
       {"starts at step 4", "one-step"}},
      {[&] {
         struct V : FrameNetwork {
           PredictionType prediction_type() const { return PredictionType::v; }
         };
         make(6, {}).next(V{network});
       },
       {"predicts v", "epsilon"}},
      {[&] {
         Queue queue = make(6, {});
         queue.output().resize(5, 1, 3);
         queue.advance();
       },
       {"15 elements", "18"}},
      {[&] {
         make(6, {}).next([](const Tensor&, const Query&, Tensor& out) {
           out.setConstant(std::numeric_limits<double>::infinity());
         });
       },
       {"not finite", "1 network call"}},
      {[&] { ask_parts(6, {.frames = 0}); }, {"frames is 0"}},
      {[&] { ask_parts(6, {.frames = 3}); }, {"frames is 3", "even"}},
      {[&] { ask_parts(6, {.frames = 4, .lookahead = false}); }, {"6 frames", "4 at a time"}},
      {[&] { ask_parts(7, {.frames = 4}); }, {"7 frames", "steps of 2"}},
      {[&] { ask_parts(2, {.frames = 4}); }, {"2 frames", "4"}},
      {[&] { ask_parts(4, {.dimension = -1, .frames = 2}); }, {"dimension is -1"}},
      {[&] { ask_parts(4, {.dimension = 5, .frames = 2}); }, {"dimension 5"}},
  };
  for (const Row& row : table) {
    std::string message;
    try {
      row.act();
    } catch (const Error& error) {
      message = error.what();
    }
    for (const std::string& part : row.says) {
      CAPTURE(message, part);
      CHECK(message.find(part) != std::string::npos);
    }
  }
}
