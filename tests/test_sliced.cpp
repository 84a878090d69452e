// Runs in which every sample, frame or element stands at its own stage: bit for bit the plain run
// where slices go in step or the network treats them alone, a simulation by steppers where it does
// not, and the exact laws of correlated Gaussian frames.

#include "catch.hpp"
#include "sliced_support.hpp"

#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/heun.hpp>
#include <diffusion/sampling/sliced.hpp>
#include <diffusion/video/forcing.hpp>

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <thread>
#include <vector>

using namespace diffusion;
using sliced::ElementNetwork;
using sliced::random_plan;
using sliced::random_schedule;
using support::Random;
using support::same_bits;

namespace {

template <class S>
using Clip = Eigen::Tensor<S, 3, Eigen::RowMajor>;
using Matrix = Eigen::Tensor<double, 2, Eigen::RowMajor>;
using Indices = std::vector<std::size_t>;

/// A way to slice samples of (3, n) elements, and what it means.
struct Cut {
  std::string name;
  Slices slices;
  Indices part_of;
  std::size_t parts;
};

std::vector<Cut> cuts(std::size_t n, Random& random) {
  const std::size_t size = 3 * n;
  Indices none(size), first(size), second(size), runs(size);
  std::vector<int> map(size);
  for (std::size_t i = 0; i < size; ++i) {
    first[i] = i / n;
    second[i] = i % n;
    map[i] = i < 4 ? static_cast<int>(i) : random.chance(0.2) ? random.integer(0, 3) : map[i - 1];
    runs[i] = static_cast<std::size_t>(map[i]);
  }
  return {{"samples", Slices::samples(), none, 1},
          {"the dimension of the batch", Slices::along(0), none, 1},
          {"frames", Slices::along(1), first, 3},
          {"the last dimension", Slices::along(2), second, n},
          {"a map", Slices::by_element(map), runs, 4}};
}

/// Three threads, each with its share.
struct ThreadDevice {
  template <class F>
  void parallel_for(std::size_t n, std::size_t, const F& f) {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 3; ++i)
      threads.emplace_back([&f, begin = n * i / 3, end = n * (i + 1) / 3] { f(begin, end); });
    for (std::thread& thread : threads) thread.join();
  }
};

SamplingPlan ddim(int steps, double eta = 0) {
  return DdimSampler{NoiseSchedule<>::linear(), {.steps = steps, .eta = eta}}.plan();
}

}  // namespace

// ---- bit for bit -------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("Slices in step are a plain run, and slices out of step where they are alone",
                   "", float, double) {
  using Tensor = Clip<TestType>;
  Random random(1);
  const auto plans = sliced::zoo_plans();
  CHECK(sliced::left_out(plans) == std::vector<std::string>{"predictor-corrector"});  // Langevin
  ThreadDevice threads;
  std::size_t turn = 0;
  for (const auto& entry : plans) {
    const std::string& name = entry.name;
    const SamplingPlan& plan = entry.plan;
    const std::size_t n = ++turn % 20 == 0 ? 300 : turn % 2 == 0 ? 5 : 18;
    const auto extent = static_cast<Eigen::Index>(n);
    const std::vector<Cut> all = cuts(n, random);
    const Tensor plain =
        sample<Tensor>(plan, ElementNetwork{all[0].part_of, 1}, {2, 3, extent}, PhiloxNoise{5});
    for (std::size_t c = 0; c < all.size(); ++c) {
      const Cut& cut = all[c];
      const auto sliced = [&](const SliceSchedule& schedule, const SampleOptions& options = {}) {
        CAPTURE(name, cut.name, n, schedule.text());
        CHECK(same_bits(
            sample_sliced<Tensor>(plan, ElementNetwork{cut.part_of, cut.parts}, {2, 3, extent},
                                  PhiloxNoise{5}, cut.slices, schedule, options),
            plain));
      };
      sliced(full_sequence(plan.steps(), cut.parts));
      sliced(random_schedule(random, plan.steps(), 2 * cut.parts));
      if (c != turn % all.size()) continue;
      sliced(pyramid(plan.steps(), cut.parts, 0.7));
      sliced(random_schedule(random, plan.steps(), cut.parts), {.device = threads});
    }
  }
}

TEMPLATE_TEST_CASE("Random plans are bit for bit the same in slices", "", float, double) {
  using Tensor = Clip<TestType>;
  Random random(2);
  for (int trial = 0; trial < 60; ++trial) {
    const bool learned = trial % 4 == 3;
    const SamplingPlan plan =
        random_plan(trial, learned, trial % 3 == 0 ? Clipping::none() : Clipping::range(0.6));
    const std::size_t n = static_cast<std::size_t>(random.integer(1, 40));
    const auto extent = static_cast<Eigen::Index>(n);
    const std::vector<Cut> all = cuts(n + 1, random);
    const SampleOptions options{.prediction_type = all_prediction_types[trial % 7]};
    const Tensor plain = sample<Tensor>(plan, ElementNetwork{all[0].part_of, 1}, {2, 3, extent + 1},
                                        PhiloxNoise{5}, options);
    for (const Cut& cut : all) {
      const SliceSchedule schedule = random_schedule(random, plan.steps(), 2 * cut.parts);
      CAPTURE(trial, cut.name, schedule.text());
      CHECK(same_bits(
          sample_sliced<Tensor>(plan, ElementNetwork{cut.part_of, cut.parts}, {2, 3, extent + 1},
                                PhiloxNoise{5}, cut.slices, schedule, options),
          plain));
    }
  }
}

TEST_CASE("Column-major states, unbatched states and views are sliced too") {
  Random random(3);
  const SamplingPlan plan = random_plan(3, false, Clipping::none());
  using Columns = Eigen::Tensor<double, 4>;  // (width, height, frame, batch)
  const std::size_t size = 5 * 3 * 4;
  Indices frames(size), none(size);
  for (std::size_t i = 0; i < size; ++i) frames[i] = i / 15;
  const Columns plain =
      sample<Columns>(plan, ElementNetwork{none, 1}, {5, 3, 4, 2}, PhiloxNoise{5});
  const SliceSchedule schedule = random_schedule(random, plan.steps(), 4);
  CHECK(same_bits(sample_sliced<Columns>(plan, ElementNetwork{frames, 4}, {5, 3, 4, 2},
                                         PhiloxNoise{5}, Slices::along(2), schedule),
                  plain));
  CHECK(
      same_bits(sample_sliced<Columns>(plan, ElementNetwork{none, 1}, {5, 3, 4, 2}, PhiloxNoise{5},
                                       Slices::along(3), random_schedule(random, plan.steps(), 2)),
                plain));

  // (channel, frame, height): frames in the middle of one sample are many stretches of memory.
  using Tensor = Clip<double>;
  Indices middle(2 * 4 * 9), all(2 * 4 * 9);
  for (std::size_t i = 0; i < middle.size(); ++i) middle[i] = i / 9 % 4;
  const SampleOptions one{.batch = false};
  const Tensor whole = sample<Tensor>(plan, ElementNetwork{all, 1}, {2, 4, 9}, PhiloxNoise{5}, one);
  Tensor start(2, 4, 9);
  const PhiloxNoise own(5);
  detail::draw_initial(own, {1, 72}, start.data(), plan.traits().initial_scale);
  Eigen::TensorMap<Tensor> view(start.data(), 2, 4, 9);
  CHECK(sample_sliced_in_place(plan, ElementNetwork{middle, 4}, view, PhiloxNoise{5},
                               Slices::along(1), schedule, one)
            .done());
  CHECK(same_bits(start, whole));
}

TEST_CASE("Sixteen-bit states are sliced too") {
  using Tensor = Clip<Eigen::half>;
  Random random(4);
  const SamplingPlan plan = random_plan(3, false, Clipping::range(0.6));
  const std::vector<Cut> all = cuts(21, random);
  const Tensor plain =
      sample<Tensor>(plan, ElementNetwork{all[0].part_of, 1}, {2, 3, 21}, PhiloxNoise{5});
  for (const Cut& cut : all)
    CHECK(same_bits(sample_sliced<Tensor>(plan, ElementNetwork{cut.part_of, cut.parts}, {2, 3, 21},
                                          PhiloxNoise{5}, cut.slices,
                                          random_schedule(random, plan.steps(), cut.parts)),
                    plain));
}

TEST_CASE("A dynamic threshold is that of the plain run where slices are samples or in step") {
  using Tensor = Clip<float>;
  Random random(5);
  for (int trial = 0; trial < 12; ++trial) {
    const SamplingPlan plan = random_plan(trial, false, Clipping::dynamic(0.8, 2));
    const std::vector<Cut> all = cuts(31, random);
    const Tensor plain =
        sample<Tensor>(plan, ElementNetwork{all[0].part_of, 1}, {2, 3, 31}, PhiloxNoise{5});
    for (const Cut& cut : all) {
      const SliceSchedule schedule = cut.parts == 1 ? random_schedule(random, plan.steps(), 2)
                                                    : full_sequence(plan.steps(), cut.parts);
      CHECK(same_bits(sample_sliced<Tensor>(plan, ElementNetwork{cut.part_of, cut.parts},
                                            {2, 3, 31}, PhiloxNoise{5}, cut.slices, schedule),
                      plain));
    }
  }
}

// ---- slices that see each other ----------------------------------------------------------------

namespace {

/// What a network that sees its input scaled gets of clean data: x / sigma_data. Consistency models
/// are EDM networks, with 0.5; the others' is 1.
double scale_of_clean_data(const std::string& plan) {
  return plan.rfind("consistency", 0) == 0 ? 2 : 1;
}

/// What sample b of `states` is answered: it sees itself and the mean of all at its own time.
double coupled(const std::vector<std::vector<double>>& inputs, const std::vector<double>& times,
               std::size_t b, std::size_t i) {
  double mean = 0;
  for (std::size_t k = 0; k < inputs.size(); ++k)
    mean += std::cos(0.01 * times[k]) * inputs[k][i] / static_cast<double>(inputs.size());
  return std::sin(0.9 * inputs[b][i] + 0.01 * times[b]) + 0.4 * mean;
}

}  // namespace

TEST_CASE("Slices that see each other are a simulation by a stepper for each") {
  Random random(6);
  constexpr std::size_t count = 4, size = 19;
  for (const auto& entry : sliced::zoo_plans()) {
    const std::string& name = entry.name;
    const SamplingPlan& plan = entry.plan;
    const SliceSchedule schedule = random_schedule(random, plan.steps(), count);
    const auto network = [&](const Matrix& x, const Query& query, Matrix& out) {
      std::vector<std::vector<double>> inputs(count);
      std::vector<double> times(count, query.t);
      for (std::size_t b = 0; b < count; ++b) {
        inputs[b].assign(x.data() + b * size, x.data() + (b + 1) * size);
        if (!query.times.empty()) times[b] = query.times[b];
      }
      for (std::size_t b = 0; b < count; ++b)
        for (std::size_t i = 0; i < size; ++i)
          out.data()[b * size + i] = coupled(inputs, times, b, i);
    };
    const Matrix x =
        sample_sliced<Matrix>(plan, network, {4, 19}, PhiloxNoise{5}, Slices::samples(), schedule);

    // The same with a Stepper for each sample.
    using Run = Stepper<Matrix, PhiloxNoise>;
    std::vector<Run> runs;
    for (std::size_t b = 0; b < count; ++b) {
      const PhiloxNoise own(5, b);
      Matrix start(1, 19);
      detail::draw_initial(own, {1, size}, start.data(), plan.traits().initial_scale);
      runs.push_back(Run(plan, start, own));
    }
    const auto settle = [](Run& run) {
      while (!run.done() && !run.asks()) run.advance();
    };
    const double end_time = plan[plan.size() - 1].to.t;
    const double end_scale = scale_of_clean_data(name);
    std::vector<std::vector<double>> inputs(count);
    std::vector<double> times(count);
    for (Run& run : runs) settle(run);
    for (const std::vector<int>& row : schedule.rows)
      for (bool moved = true; moved;) {
        moved = false;
        for (std::size_t b = 0; b < count; ++b) {
          const Matrix& input = runs[b].done() ? runs[b].state() : runs[b].input();
          inputs[b].assign(input.data(), input.data() + size);
          if (runs[b].done())
            for (double& value : inputs[b]) value *= end_scale;
          times[b] = runs[b].done() ? end_time : runs[b].timestep();
        }
        for (std::size_t b = 0; b < count; ++b) {
          if (runs[b].done() || runs[b].step() >= row[b]) continue;
          moved = true;
          for (std::size_t i = 0; i < size; ++i)
            runs[b].output().data()[i] = coupled(inputs, times, b, i);
          runs[b].advance();
          settle(runs[b]);
        }
      }
    CAPTURE(name, schedule.text());
    double worst = 0;
    for (std::size_t b = 0; b < count; ++b)
      for (std::size_t i = 0; i < size; ++i)
        worst = std::max(worst, std::abs(runs[b].state().data()[i] - x.data()[b * size + i]) /
                                    (1 + std::abs(x.data()[b * size + i])));
    CHECK(worst <= 1e-12);
  }
}

// ---- what happens in a tick --------------------------------------------------------------------

TEST_CASE("A slice that waits does not change, and the network is told where each slice stands") {
  Random random(7);
  for (const auto& entry : sliced::zoo_plans()) {
    const std::string& name = entry.name;
    const SamplingPlan& plan = entry.plan;
    const SliceSchedule schedule = random_schedule(random, plan.steps(), 3);
    Clip<double> x = support::tensor_of<Clip<double>>({2, 3, 5}, Random(8).normals(30));
    SlicedStepper run(plan, x, PhiloxNoise{5}, Slices::along(1), schedule);
    Indices part_of(15);
    for (std::size_t i = 0; i < 15; ++i) part_of[i] = i / 5;
    const ElementNetwork network{part_of, 3};
    CAPTURE(name, schedule.text());
    int ticks = 0, held = 0;
    std::vector<int> asked(6);
    while (!run.done()) {
      CHECK(run.asks());
      const Query query = run.query();
      const Clip<double> input = run.input(), before = run.state();
      bool alike = true;
      double noisiest = -1;
      for (std::size_t slice = 0; slice < 6; ++slice) {
        const bool done = run.stage_number(slice) == plan.size();
        const Knot& level = run.level(slice);
        alike = alike && level == run.level(0);
        double scale = 1;
        if (!done) {
          const Stage& stage = plan[run.stage_number(slice)];
          CHECK(stage.ask);
          scale = stage.input_scale;
          CHECK(level == Knot{stage.at.t, scale * stage.at.alpha, scale * stage.at.sigma});
          if (run.moves(slice)) noisiest = std::max(noisiest, stage.at.sigma / stage.at.alpha);
        } else {
          CHECK(level.t == plan[plan.size() - 1].to.t);
          CHECK(level.sigma == 0);
          CHECK(level.alpha == Approx(scale_of_clean_data(name)));
          CHECK(run.step(slice) == plan.steps());
        }
        CHECK(run.moves(slice) ==
              (run.step(slice) < schedule.rows[static_cast<std::size_t>(run.row())][slice % 3]));
        const std::size_t at = slice * 5;  // (2, 3, 5): slices lie one behind the other
        for (std::size_t i = at; i < at + 5; ++i)
          if (!done) CHECK(input.data()[i] == scale * before.data()[i]);
      }
      CHECK(query.sigma / query.alpha == Approx(noisiest));
      if (alike) {
        CHECK(query.times.empty());
        CHECK(query.levels.empty());
      } else {
        CHECK(query.input_scale == 1);
        REQUIRE(query.times.size() == 6);
        REQUIRE(query.levels.size() == 6);
        for (std::size_t slice = 0; slice < 6; ++slice) {
          CHECK(query.levels[slice] == run.level(slice));
          CHECK(query.times[slice] == run.level(slice).t);
        }
      }
      std::vector<bool> moves(6);
      for (std::size_t slice = 0; slice < 6; ++slice) {
        moves[slice] = run.moves(slice);
        asked[slice] += moves[slice] ? 1 : 0;
      }
      network(run.input(), query, run.output());
      const Clip<double> preview = run.preview();
      CHECK(same_bits(before, run.state()));
      run.advance();
      CHECK(run.finite());
      CHECK(run.ticks() == ++ticks);
      for (std::size_t slice = 0; slice < 6; ++slice) {
        if (moves[slice]) continue;
        ++held;
        CHECK(std::equal(before.data() + 5 * slice, before.data() + 5 * slice + 5,
                         run.state().data() + 5 * slice));
        if (run.stage_number(slice) == plan.size())
          CHECK(std::equal(before.data() + 5 * slice, before.data() + 5 * slice + 5,
                           preview.data() + 5 * slice));
      }
    }
    CHECK(held > 0);
    CHECK(asked == std::vector<int>(6, plan.network_calls()));
    CHECK_THROWS_WITH(run.advance(), contains("end of its schedule"));
    CHECK_THROWS_WITH(run.input(), contains("end of its schedule"));
  }
}

TEST_CASE("A preview is x0 by hand, each slice read at its own level, the threshold over all") {
  Random random(9);
  for (int trial = 0; trial < 9; ++trial) {
    const Clipping clippings[] = {Clipping::none(), Clipping::range(0.6),
                                  Clipping::dynamic(0.7, 5)};
    const SamplingPlan plan = random_plan(trial, false, clippings[trial / 3]);
    const PredictionType type = all_prediction_types[trial % 7];
    const SliceSchedule schedule = random_schedule(random, plan.steps(), 3);
    SlicedStepper run(plan, support::tensor_of<Clip<double>>({2, 3, 5}, random.normals(30)),
                      PhiloxNoise{5}, Slices::along(1), schedule,
                      SampleOptions{.prediction_type = type});
    while (!run.done()) {
      for (std::size_t i = 0; i < 30; ++i) run.output().data()[i] = random.normal();
      const Clip<double> x0 = run.preview(), before = run.state();
      support::Vector expected(30);
      for (std::size_t sample = 0; sample < 2; ++sample) {
        support::Vector raw(15);
        std::vector<bool> done(15);
        for (std::size_t i = 0; i < 15; ++i) {
          const std::size_t slice = sample * 3 + i / 5, at = sample * 15 + i;
          done[i] = run.stage_number(slice) == plan.size();
          raw[i] = done[i] ? before.data()[at]
                           : support::estimates(type, plan[run.stage_number(slice)],
                                                before.data()[at], run.output().data()[at])
                                 .x0;
        }
        support::Vector clipped = raw;
        support::clip(plan.traits().clipping, clipped);
        for (std::size_t i = 0; i < 15; ++i)
          expected[sample * 15 + i] = done[i] ? raw[i] : clipped[i];
      }
      CHECK(support::relative_error(support::values_of(x0), expected) < 1e-13);
      run.advance();
    }
  }
}

TEST_CASE("Copies of a sliced run go on by themselves") {
  Random random(10);
  const SamplingPlan plan = random_plan(5, false, Clipping::none());
  Indices part_of(15);
  for (std::size_t i = 0; i < 15; ++i) part_of[i] = i / 5;
  const ElementNetwork network{part_of, 3};
  const SliceSchedule schedule = random_schedule(random, plan.steps(), 6);
  SlicedStepper run(plan, support::tensor_of<Clip<double>>({2, 3, 5}, random.normals(30)),
                    PhiloxNoise{5}, Slices::along(1), schedule);
  std::vector<decltype(run)> copies;
  while (!run.done()) {
    network(run.input(), run.query(), run.output());
    copies.push_back(run);
    run.advance();
  }
  for (auto& copy : copies) {
    copy.advance();
    while (!copy.done()) {
      network(copy.input(), copy.query(), copy.output());
      copy.advance();
    }
    CHECK(same_bits(copy.state(), run.state()));
  }
}

TEST_CASE("Callbacks see every tick, may cancel, and the deadline is kept") {
  const SamplingPlan plan = HeunSampler{NoiseSchedule<>::linear(), {.steps = 3}}.plan();
  const ElementNetwork network{Indices{0, 1}, 2};
  Matrix x = support::tensor_of<Matrix>({1, 2}, {0.3, -0.2});
  const Matrix start = x;
  int calls = 0;
  const auto schedule = pyramid(3, 2, 1);
  SampleResult result =
      sample_sliced_in_place(plan, network, x, PhiloxNoise{1}, Slices::along(1), schedule, {},
                             [&](const auto& run) { CHECK(run.ticks() == calls++); });
  CHECK(result.done());
  CHECK(result.network_calls == calls);
  CHECK(calls == 2 + 2 + 2 + 1);  // Heun asks twice a step, once in its last
  x = start;
  result = sample_sliced_in_place(
      plan, network, x, PhiloxNoise{1}, Slices::along(1), schedule, {},
      [&](const auto& run) { return run.ticks() == 1 ? Verdict::cancel : Verdict::proceed; });
  CHECK(result.status == Status::cancelled);
  CHECK(result.stage == 1);
  CHECK(result.network_calls == 2);
  CHECK(x(0, 1) == start(0, 1));  // the second has not begun
  CHECK(x(0, 0) != start(0, 0));
  SampleOptions late;
  late.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  result =
      sample_sliced_in_place(plan, network, x, PhiloxNoise{1}, Slices::along(1), schedule, late);
  CHECK(result.status == Status::deadline);
  x(0, 0) = std::numeric_limits<double>::infinity();
  result = sample_sliced_in_place(plan, network, x, PhiloxNoise{1}, Slices::along(1), schedule);
  CHECK(result.status == Status::not_finite);
  CHECK(result.network_calls == 1);
}

namespace {

struct Halve {
  template <class Run>
  void edit_x0(const Run&, Clip<double>& x0) {
    for (Eigen::Index i = 0; i < x0.size(); ++i) x0.data()[i] *= 0.5;
  }
};

struct Shift {
  std::vector<int> calls;
  template <class Run>
  void edit_start(const Run&, Clip<double>& x) {
    x.setConstant(0.5);
  }
  template <class Run>
  void edit_state(const Run& run, Clip<double>& x) {
    calls.push_back(run.ticks());
    x(0, 0, 0) += 1;
  }
};

}  // namespace

TEST_CASE("Edits of x0 and of the state act on the slices that move") {
  const SamplingPlan plan = ddim(3);
  const ElementNetwork network{Indices{0, 1}, 2};
  const auto run = [&](const SliceSchedule& schedule, auto&&... edits) {
    return sample_sliced<Clip<double>>(plan, network, {1, 2, 1}, PhiloxNoise{1}, Slices::along(1),
                                       schedule, {}, edits...);
  };
  const Clip<double> halved =
      sample<Clip<double>>(plan, network, {1, 2, 1}, PhiloxNoise{1}, {}, Halve{});
  const Clip<double> sliced = run(pyramid(3, 2, 1), Halve{});
  for (Eigen::Index i = 0; i < 2; ++i) CHECK(sliced(0, i, 0) == Approx(halved(0, i, 0)));
  CHECK_FALSE(same_bits(halved, run(pyramid(3, 2, 1))));
  Shift shift;
  const Clip<double> shifted = run(autoregressive(3, 2), shift);
  CHECK(shift.calls == std::vector<int>{1, 2, 3, 4, 5, 6});
  Clip<double> same(1, 2, 1);
  same.setConstant(0.5);
  sample_in_place(plan, network, same, PhiloxNoise{1});
  CHECK(shifted(0, 1, 0) == same(0, 1, 0));
}

// ---- sequential noise --------------------------------------------------------------------------

TEST_CASE("A sequential source serves slices that draw in step") {
  const std::vector<std::size_t> none(21);
  Indices part_of(21);
  for (std::size_t i = 0; i < 21; ++i) part_of[i] = i / 7;
  const ElementNetwork plain{none, 1}, network{part_of, 3};
  using Tensor = Clip<double>;
  for (const auto& entry : sliced::zoo_plans()) {
    const std::string& name = entry.name;
    const SamplingPlan& plan = entry.plan;
    CAPTURE(name);
    TorchCpuNoise source(3), same(3);
    const Tensor x = sample<Tensor>(plan, plain, {2, 3, 7}, source);
    const int n = plan.steps();
    SliceSchedule together = SliceSchedule::from_noise(3, {{1, 1, 1}, {1, 1, 1}, {n, n, n}});
    CHECK(same_bits(
        sample_sliced<Tensor>(plan, network, {2, 3, 7}, same, Slices::along(1), together), x));
    support::Vector next(4), next_of_same(4);
    source.fill(std::span<double>(next));
    same.fill(std::span<double>(next_of_same));
    CHECK(next == next_of_same);

    const auto out_of_step = [&] {
      TorchCpuNoise own(3);
      return sample_sliced<Tensor>(plan, network, {2, 3, 7}, own, Slices::along(1),
                                   pyramid(n, 3, 1));
    };
    if (plan.draws() > 0)
      CHECK_THROWS_WITH(out_of_step(), contains("must draw in step"));
    else
      CHECK(same_bits(out_of_step(), x));

    // Slices that are known need not keep step.
    TorchCpuNoise once_more(3);
    Tensor state(2, 3, 7);
    detail::draw_initial(once_more, {2, 21}, state.data(), plan.traits().initial_scale);
    for (Eigen::Index b = 0; b < 2; ++b)
      for (Eigen::Index i = 0; i < 7; ++i) state(b, 1, i) = 0.25;
    sample_sliced_in_place(plan, network, state, once_more, Slices::along(1), together.known(1, n));
    for (Eigen::Index b = 0; b < 2; ++b)
      for (Eigen::Index k = 0; k < 3; ++k)
        for (Eigen::Index i = 0; i < 7; ++i) CHECK(state(b, k, i) == (k == 1 ? 0.25 : x(b, k, i)));
  }
}

// ---- starting in the middle --------------------------------------------------------------------

TEST_CASE("Slices start where the schedule says, at the level of that step") {
  const SamplingPlan plan = ddim(5, 1);
  Clip<double> x = support::tensor_of<Clip<double>>({2, 3, 7}, Random(11).normals(42));
  const Clip<double> data = x;
  const SliceSchedule schedule = joining(5, {0, 2, 5});
  slice_levels(plan, x, PhiloxNoise{5}, Slices::along(1), schedule);
  for (std::size_t i = 0; i < 42; ++i) {
    std::vector<double> noise(21);
    PhiloxNoise{5}.fill(i / 21, 0, 0, std::span<double>(noise));
    const double n = noise[i % 21], d = data.data()[i];
    const Knot& at = plan[2].at;
    const double expected[] = {n, at.alpha * d + at.sigma * n, d};
    CHECK(x.data()[i] == Approx(expected[i % 21 / 7]).epsilon(1e-15));
  }
  // Each goes on as a plain run from there.
  Indices part_of(21);
  for (std::size_t i = 0; i < 21; ++i) part_of[i] = i / 7;
  const Clip<double> start = x;
  sample_sliced_in_place(plan, ElementNetwork{part_of, 3}, x, PhiloxNoise{5}, Slices::along(1),
                         schedule);
  Clip<double> plain = start, cut = start;
  const ElementNetwork network{Indices(21), 1};
  sample_in_place(plan, network, plain, PhiloxNoise{5});
  // The rest of the plan draws the same numbers where its draws keep theirs: a run by hand.
  Clip<double> memory = start;
  Stepper whole(plan, Eigen::TensorMap<Clip<double>>(memory.data(), 2, 3, 7), PhiloxNoise{5});
  while (whole.stage_number() < 2) {
    whole.output().setZero();
    whole.advance();
  }
  memory = start;
  while (!whole.done()) {
    network(whole.input(), whole.query(), whole.output());
    whole.advance();
  }
  for (Eigen::Index b = 0; b < 2; ++b)
    for (Eigen::Index i = 0; i < 7; ++i) {
      CHECK(x(b, 0, i) == plain(b, 0, i));
      CHECK(x(b, 1, i) == memory(b, 1, i));
      CHECK(x(b, 2, i) == data(b, 2, i));
    }
  // All at noise is where `sample` starts.
  Clip<float> noise(2, 3, 7), first(2, 3, 7);
  noise.setConstant(std::numeric_limits<float>::quiet_NaN());
  slice_levels(plan, noise, PhiloxNoise{5}, Slices::samples(), full_sequence(5, 1));
  const PhiloxNoise own(5);
  detail::draw_initial(own, {2, 21}, first.data(), plan.traits().initial_scale);
  CHECK(same_bits(noise, first));
}

// ---- guidance ----------------------------------------------------------------------------------

TEST_CASE("Classifier-free guidance works with times of slices, joined or not") {
  // The network answers by sample, time and condition; joined, it must see the times twice.
  const auto network = [](const Matrix& x, const Query& query, const Conditions<int>& conditions,
                          Matrix& out) {
    const auto n = static_cast<std::size_t>(x.size()), batch = conditions.size();
    if (!query.times.empty()) REQUIRE(query.times.size() % batch == 0);
    if (!query.times.empty()) REQUIRE(query.levels.size() == query.times.size());
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t sample = i / (n / batch);
      const double t = query.times.empty() ? query.t : query.times[i * query.times.size() / n];
      out.data()[i] = support::answer(x.data()[i], t + 30 * conditions[sample], i % (n / batch));
    }
  };
  const SamplingPlan plan = ddim(4, 1);
  Random random(12);
  for (const Slices& slices : {Slices::samples(), Slices::along(1)}) {
    const std::size_t columns = slices.dimension() < 0 ? 3 : 12;
    const SliceSchedule schedule = random_schedule(random, 4, columns);
    Matrix results[2];
    for (const GuidanceCalls calls : {GuidanceCalls::joined, GuidanceCalls::separate}) {
      ClassifierFreeGuidance guided(network, std::vector<int>{1, 2, 3}, 0,
                                    GuidanceOptions{.scale = 2.5, .calls = calls});
      results[static_cast<std::size_t>(calls)] =
          sample_sliced<Matrix>(plan, guided, {3, 4}, PhiloxNoise{5}, slices, schedule);
    }
    ClassifierFreeGuidance guided(network, std::vector<int>{1, 2, 3}, 0,
                                  GuidanceOptions{.scale = 2.5});
    CHECK(same_bits(results[0], results[1]));
    CHECK(same_bits(results[0], sample<Matrix>(plan, guided, {3, 4}, PhiloxNoise{5})));
  }
}

// ---- Gaussian frames ---------------------------------------------------------------------------

namespace {

using Dense = Eigen::MatrixXd;

/// Frames of an autoregressive process: covariance rho^|i - k|.
Dense ar1(Eigen::Index frames, double rho) {
  Dense c(frames, frames);
  for (Eigen::Index i = 0; i < frames; ++i)
    for (Eigen::Index k = 0; k < frames; ++k)
      c(i, k) = std::pow(rho, static_cast<double>(std::abs(i - k)));
  return c;
}

/// The exact network of correlated Gaussian frames, each at its own level: E[x0 | x] = C A (A C A +
/// S^2)^-1 x for x = A x0 + S eps, answered as epsilon. Samples are clips (batch, frame).
struct FramesDenoiser {
  Dense covariance;
  void operator()(const Matrix& x, const Query& query, Matrix& out) const {
    const Eigen::Index frames = covariance.rows(), batch = x.dimension(0);
    for (Eigen::Index b = 0; b < batch; ++b) {
      Eigen::VectorXd alpha(frames), sigma(frames), z(frames);
      for (Eigen::Index k = 0; k < frames; ++k) {
        const std::size_t slice = static_cast<std::size_t>(b * frames + k);
        alpha(k) = query.levels.empty() ? query.alpha : query.levels[slice].alpha;
        sigma(k) = query.levels.empty() ? query.sigma : query.levels[slice].sigma;
        z(k) = x(b, k);
      }
      const Dense a = alpha.asDiagonal(), s = sigma.array().square().matrix().asDiagonal();
      const Eigen::VectorXd x0 = covariance * a * (a * covariance * a + s).ldlt().solve(z);
      for (Eigen::Index k = 0; k < frames; ++k)
        out(b, k) = sigma(k) > 0 ? (z(k) - alpha(k) * x0(k)) / sigma(k) : 0;
    }
  }
};

/// The run is linear in its initial noise: row k is what the k-th unit vector becomes.
Dense map_of(const SamplingPlan& plan, const SliceSchedule& schedule, const Dense& covariance,
             const std::vector<double>& known = {}) {
  const Eigen::Index frames = covariance.rows();
  Matrix x(frames + 1, frames);  // the last row: no noise
  x.setZero();
  for (Eigen::Index k = 0; k < frames; ++k) x(k, k) = plan.traits().initial_scale;
  for (std::size_t k = 0; k < known.size(); ++k)
    for (Eigen::Index row = 0; row <= frames; ++row)
      x(row, static_cast<Eigen::Index>(k)) = known[k];
  sample_sliced_in_place(plan, FramesDenoiser{covariance}, x, PhiloxNoise{1}, Slices::along(1),
                         schedule);
  return Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
      x.data(), frames + 1, frames);
}

SamplingPlan fine_plan(int steps) {
  return DdimSampler{NoiseSchedule<>::linear(),
                     {.steps = steps, .grid = {.spacing = TimestepSpacing::trailing}}}
      .plan();
}

}  // namespace

TEST_CASE("Diffusion forcing with the exact network has the law of correlated frames") {
  const Dense c = ar1(5, 0.8);
  for (const double uncertainty : {0.0, 0.1, 0.5, 1.0}) {
    double before = 0;
    for (const int steps : {25, 50, 100, 200}) {
      const SamplingPlan plan = fine_plan(steps);
      const Dense m = map_of(plan, pyramid(steps, 5, uncertainty * steps), c).topRows(5);
      const double error = (m.transpose() * m - c).cwiseAbs().maxCoeff();
      UNSCOPED_INFO("uncertainty " << uncertainty << " steps " << steps << " error " << error);
      if (before > 0) CHECK(error < 0.7 * before);  // first order: halves
      before = error;
    }
    CAPTURE(uncertainty);
    CHECK(before < 0.025);
  }
}

TEST_CASE("Given clean frames the next has their exact conditional law, and they stay") {
  const Dense c = ar1(4, 0.8);
  const std::vector<double> known{0.7, -1.2};
  const int steps = 400;
  const SamplingPlan plan = fine_plan(steps);
  for (const bool one_by_one : {false, true}) {
    SliceSchedule schedule = one_by_one ? autoregressive(steps, 4) : full_sequence(steps, 4);
    schedule = schedule.known(0, steps).known(1, steps);
    const Dense m = map_of(plan, schedule, c, known);
    for (Eigen::Index row = 0; row < 5; ++row) {
      CHECK(m(row, 0) == known[0]);  // to the last bit
      CHECK(m(row, 1) == known[1]);
    }
    const Eigen::Vector2d given(known[0], known[1]);
    const Dense gain = c.block(2, 0, 2, 2) * c.block(0, 0, 2, 2).inverse();
    const Eigen::Vector2d mean = gain * given;
    const Dense conditional = c.block(2, 2, 2, 2) - gain * c.block(0, 2, 2, 2);
    const Dense noise = m.block(2, 2, 2, 2).rowwise() - m.block(4, 2, 1, 2).row(0);
    CHECK((m.block(4, 2, 1, 2).transpose() - mean).cwiseAbs().maxCoeff() < 0.01);
    CHECK((noise.transpose() * noise - conditional).cwiseAbs().maxCoeff() < 0.01);
  }
}

// ---- schedules ---------------------------------------------------------------------------------

TEST_CASE("The ready schedules are what they say") {
  CHECK(full_sequence(2, 3).text() == "0 0 0\n1 1 1\n2 2 2\n");
  CHECK(autoregressive(2, 2).text() == "0 0\n1 0\n2 0\n2 1\n2 2\n");
  CHECK(autoregressive(2, 3, 2).text() == "0 0 0\n1 1 0\n2 2 0\n2 2 1\n2 2 2\n");
  CHECK(pyramid(3, 3, 1).text() == "0 0 0\n1 0 0\n2 1 0\n3 2 1\n3 3 2\n3 3 3\n");
  CHECK(pyramid(2, 3, 0.5).text() == "0 0 0\n1 1 0\n2 2 1\n2 2 2\n");
  CHECK(pyramid(4, 3, 0) == full_sequence(4, 3));
  CHECK(pyramid(4, 3, 4) == autoregressive(4, 3));
  CHECK(pyramid(4, 3, 99) == autoregressive(4, 3));
  CHECK(rolling(6, 5, 3) == pyramid(6, 5, 2));
  CHECK(rolling(10, 7, 3).rows.back() == std::vector<int>(7, 10));
  CHECK(joining(3, {0, 2, 3}).text() == "0 2 3\n1 2 3\n2 2 3\n3 3 3\n");
  CHECK(joining(3, {2, 3}).text() == "2 3\n3 3\n");
  CHECK(joining(3, {3, 3}).rows.empty());
  CHECK(full_sequence(2, 2).known(0, 2).text() == "2 0\n2 1\n2 2\n");
  CHECK(full_sequence(2, 1).beside(autoregressive(1, 2)).text() == "0 0 0\n1 1 0\n2 1 1\n");
  CHECK(step_at_strength(10, 1) == 0);
  CHECK(step_at_strength(10, 0) == 10);
  CHECK(step_at_strength(10, 0.3) == 7);
}

// ---- errors ------------------------------------------------------------------------------------

TEST_CASE("What does not fit is refused with the numbers") {
  using Tensor = Clip<double>;
  const SamplingPlan plan = ddim(4, 0.5);
  const ElementNetwork network{Indices(6), 1};
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto run = [&](const Slices& slices, const SliceSchedule& schedule) {
    sample_sliced<Tensor>(plan, network, {2, 3, 2}, PhiloxNoise{1}, slices, schedule);
  };
  const auto rows = [&](std::vector<std::vector<int>> r) {
    run(Slices::along(1), SliceSchedule::from_noise(3, std::move(r)));
  };
  const SamplingPlan multistep =
      make_plan(make_grid(NoiseSchedule<>::linear(), 4, {}), DpmSolverOptions{.order = 2});
  const auto start = [&](const SamplingPlan& p, std::vector<int> steps) {
    Tensor x(2, 3, 2);
    x.setZero();
    sample_sliced_in_place(p, network, x, PhiloxNoise{1}, Slices::along(1),
                           SliceSchedule{steps, {{4, 4, 4}}});
  };
  struct Row {
    std::function<void()> act;
    std::vector<std::string> says;
  };
  const Row table[] = {
      {[&] {
         rows({{1, 1, 1}, {2, 0, 2}});
       },
       {"row 1", "slice 1", "from step 1", "back to 0"}},
      {[&] {
         rows({{1, 1, 5}});
       },
       {"row 0", "slice 2", "step 5", "0 to 4"}},
      {[&] {
         rows({{-1, 1, 1}});
       },
       {"slice 0", "step -1", "0 to 4"}},
      {[&] {
         rows({{1, 1, 1}, {2, 2}});
       },
       {"row 1", "2 slices", "3"}},
      {[&] { run(Slices::along(1), full_sequence(4, 2)); }, {"2 slices", "3 parts", "6"}},
      {[&] { run(Slices::along(1), full_sequence(4, 12)); }, {"12 slices", "3"}},
      {[&] { run(Slices::samples(), full_sequence(4, 3)); }, {"3 slices", "2"}},
      {[&] { run(Slices::along(3), full_sequence(4, 3)); }, {"dimension 3", "2x3x2"}},
      {[] { Slices::along(-1); }, {"-1", "at least 0"}},
      {[&] {
         run(Slices::by_element({0, 1, 2}), full_sequence(4, 3));
       },
       {"3 elements", "6"}},
      {[] { Slices::by_element({}); }, {"0 elements"}},
      {[] {
         Slices::by_element({0, -1});
       },
       {"-1", "at least 0"}},
      {[] {
         Slices::by_element({0, 2, 2});
       },
       {"slice 1", "0 elements"}},
      {[] {
         Slices::by_element({0, 2147483647});
       },
       {"2147483647"}},
      {[&] { run(Slices::along(1), full_sequence(4, 3).known(0, 4)); }, {"slice 0", "step 4"}},
      {[] { full_sequence(4, 3).known(3, 4); }, {"slice 3", "3"}},
      {[&] {
         start(plan, {0, 5, 0});
       },
       {"start", "slice 1", "step 5"}},
      {[&] {
         start(plan, {0, 0});
       },
       {"2 slices"}},
      {[&] {
         start(multistep, {0, 2, 0});
       },
       {"starts at step 2", "estimate", "one-step"}},
      {[] { pyramid(0, 3, 1); }, {"steps is 0", "at least 1"}},
      {[] { pyramid(4, 0, 1); }, {"slices is 0", "at least 1"}},
      {[] { pyramid(4, 3, -1); }, {"uncertainty is -1", "[0"}},
      {[&] { pyramid(4, 3, nan); }, {"uncertainty is", "nan"}},
      {[] { autoregressive(4, 3, 0); }, {"block is 0"}},
      {[] { rolling(4, 3, 0); }, {"window is 0"}},
      {[] {
         joining(4, {0, 5});
       },
       {"is 5", "[0, 4]"}},
      {[] { joining(4, {}); }, {"slices is 0"}},
      {[] { step_at_strength(4, 1.5); }, {"strength is 1.5", "[0, 1]"}},
      {[&] { step_at_strength(4, nan); }, {"strength is"}},
      {[&] {
         SlicedStepper r(plan, Tensor(2, 3, 2), PhiloxNoise{1}, Slices::along(1),
                         full_sequence(4, 3));
         r.level(6);
       },
       {"slice is 6", "6"}},
      {[&] {
         SlicedStepper r(plan, Tensor(2, 3, 2), PhiloxNoise{1}, Slices::along(1),
                         full_sequence(4, 3));
         r.output().resize(1, 3, 2);
         r.advance();
       },
       {"6 elements", "12"}},
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

TEST_CASE("Langevin steps are refused, for they couple all samples") {
  Stage stage;
  stage.at = stage.to = {7, 1, 0.8};
  stage.langevin_snr = 0.16;
  stage.draws = 1;
  stage.noise[0] = {0, 0};
  const SamplingPlan plan({stage}, {});
  CHECK_THROWS_WITH(sample_sliced<Matrix>(plan, ElementNetwork{Indices(4), 1}, {2, 4},
                                          PhiloxNoise{1}, Slices::samples(), full_sequence(1, 2)),
                    contains("Langevin"));
}

TEST_CASE("A schedule that does not fit leaves the state with its owner") {
  const SamplingPlan plan = ddim(4);
  Matrix x = support::tensor_of<Matrix>({2, 4}, Random(1).normals(8));
  const Matrix before = x;
  CHECK_THROWS_AS(sample_sliced_in_place(plan, ElementNetwork{Indices(4), 1}, x, PhiloxNoise{1},
                                         Slices::samples(), full_sequence(5, 2)),
                  Error);
  CHECK(same_bits(x, before));
  sample_sliced_in_place(plan, ElementNetwork{Indices(4), 1}, x, PhiloxNoise{1}, Slices::samples(),
                         SliceSchedule::from_noise(2, {}));
  CHECK(same_bits(x, before));  // no row, no tick
}
