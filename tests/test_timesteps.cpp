// Timesteps and grids: against the reference's lists, by their properties, and every refusal.

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "diffusion/schedule/continuous.hpp"
#include "diffusion/schedule/grid.hpp"
#include "diffusion/schedule/noise_schedule.hpp"
#include "diffusion/schedule/timesteps.hpp"
#include "refusals.hpp"

using namespace diffusion;
using nlohmann::json;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

const std::map<std::string, TimestepSpacing> spacings = {
    {"leading", TimestepSpacing::leading},
    {"trailing", TimestepSpacing::trailing},
    {"linspace", TimestepSpacing::linspace},
    {"quadratic", TimestepSpacing::quadratic},
};

NoiseSchedule<> schedule_of(int train_timesteps) {
  return NoiseSchedule<>::linear({.train_timesteps = train_timesteps});
}

// The times of a grid's steps, from -> to.
std::vector<std::pair<double, double>> times_of(const Grid& grid) {
  std::vector<std::pair<double, double>> times;
  for (const GridStep& step : grid) times.emplace_back(step.from.t, step.to.t);
  return times;
}

using Times = std::vector<double>;
using Pairs = std::vector<std::pair<double, double>>;

}  // namespace

TEST_CASE("timesteps equal the reference's") {
  std::ifstream stream(std::string(DIFFUSION_GOLDEN_DIR) + "/timesteps.json");
  REQUIRE(stream);
  const json file = json::parse(stream);
  std::map<std::string, int> rows;
  for (const json& row : file["cases"]) {
    const std::string scheduler = row["scheduler"];
    if (!scheduler.starts_with("DDPM") && !scheduler.starts_with("DDIM")) continue;
    const json& config = row["config"];
    const int train_timesteps = config.value("num_train_timesteps", 1000);
    const int steps = row["set_timesteps"]["num_inference_steps"];
    const std::string spacing = config.value("timestep_spacing", "leading");
    CAPTURE(scheduler, train_timesteps, steps, spacing);
    Times times = spaced_timesteps(train_timesteps, steps, spacings.at(spacing),
                                   config.value("steps_offset", 0));
    if (scheduler == "DDIMInverseScheduler") std::reverse(times.begin(), times.end());
    CHECK(times == row["timesteps"].get<Times>());
    ++rows[scheduler];
  }
  CHECK(rows["DDIMScheduler"] == 84);
  CHECK(rows["DDPMScheduler"] == 48);
  CHECK(rows["DDIMInverseScheduler"] == 36);
  CHECK(rows.size() == 3);
}

TEST_CASE("timesteps of short lists") {
  CHECK(leading_timesteps(1000, 4) == Times{750, 500, 250, 0});
  CHECK(leading_timesteps(1000, 4, 1) == Times{751, 501, 251, 1});
  CHECK(leading_timesteps(1000, 15).front() == 924);  // far from 999: why others exist
  CHECK(trailing_timesteps(1000, 4) == Times{999, 749, 499, 249});
  CHECK(trailing_timesteps(1000, 13) ==
        Times{999, 922, 845, 768, 691, 614, 537, 461, 384, 307, 230, 153, 76});
  CHECK(trailing_timesteps(1000, 16)[1] == 937);  // 937.5 rounds to 938, an even number
  CHECK(trailing_timesteps(1000, 16)[3] == 811);  // 812.5 to 812
  CHECK(linspace_timesteps(1000, 4) == Times{999, 666, 333, 0});
  CHECK(linspace_timesteps(1000, 3) == Times{999, 500, 0});  // 499.5 rounds to 500
  CHECK(linspace_timesteps(1000, 1) == Times{0});
  CHECK(quadratic_timesteps(1000, 1) == Times{0});
  CHECK(quadratic_timesteps(1000, 6) == Times{800, 512, 288, 128, 32, 0});
  CHECK(quadratic_timesteps(1000, 6, 1) == Times{801, 513, 289, 129, 33, 1});
  // 0, 0.33, 1.3, 3, 5.3, 8.3, ...: the repeated 0 moves to the next free timestep.
  const Times dense = quadratic_timesteps(1000, 50);
  CHECK(Times(dense.end() - 6, dense.end()) == Times{8, 5, 3, 2, 1, 0});
}

TEST_CASE("trailing timesteps where arange makes one too many") {
  for (const int steps : {61, 103, 121, 122}) {
    const Times times = trailing_timesteps(1000, steps);
    CHECK(times.size() == static_cast<std::size_t>(steps));
    CHECK(times.back() >= 0);
  }
}

TEST_CASE("every spacing gives n timesteps, strictly falling, in range") {
  for (const int train_timesteps : {1, 2, 3, 10, 50, 97, 999, 1000}) {
    for (int steps = 1; steps <= train_timesteps; ++steps) {
      for (const auto& [name, spacing] : spacings) {
        const Times times = spaced_timesteps(train_timesteps, steps, spacing);
        bool good = times.size() == static_cast<std::size_t>(steps) && times.back() >= 0 &&
                    times.front() <= train_timesteps - 1;
        for (std::size_t i = 0; i < times.size(); ++i) {
          good = good && times[i] == std::floor(times[i]);
          good = good && (i == 0 || times[i] < times[i - 1]);
        }
        if (name == "trailing" || (name == "linspace" && steps > 1))
          good = good && times.front() == train_timesteps - 1;
        if (name != "trailing") good = good && times.back() == 0;
        if (!good) {
          CAPTURE(name, train_timesteps, steps);
          REQUIRE(good);
        }
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------
// Grids

TEST_CASE("discrete grids go from each timestep to the next and end at the data") {
  const auto schedule = schedule_of(1000);
  for (const auto& [name, spacing] : spacings) {
    for (const int steps : {1, 2, 7, 50, 1000}) {
      CAPTURE(name, steps);
      const Grid grid = make_grid(schedule, steps, {.spacing = spacing});
      const Times times = spaced_timesteps(1000, steps, spacing);
      REQUIRE(grid.size() == steps);
      for (int i = 0; i < steps; ++i) {
        REQUIRE(grid[i].from == schedule.knot(times[static_cast<std::size_t>(i)]));
        if (i + 1 < steps) REQUIRE(grid[i].to == grid[i + 1].from);
      }
      CHECK(grid.start() == grid[0].from);
      CHECK(grid.finish() == Knot{-1, 1, 0});
      CHECK(grid.contiguous(0));
      CHECK(grid.first_step() == 0);
    }
  }
}

TEST_CASE("without set_alpha_to_one a grid ends at the level of timestep 0") {
  const auto schedule = schedule_of(1000);
  const Grid grid =
      make_grid(schedule, 10, {.spacing = TimestepSpacing::trailing, .set_alpha_to_one = false});
  CHECK(grid.finish() == schedule.knot(0));
  CHECK(grid.size() == 10);
}

TEST_CASE("the stride of the reference's DDIM, and where it leaves its own list") {
  const auto schedule = schedule_of(1000);
  const auto grid = [&](TimestepSpacing spacing, int steps, PreviousTimestep previous) {
    return make_grid(schedule, steps, {.spacing = spacing, .previous = previous});
  };
  using enum PreviousTimestep;
  using enum TimestepSpacing;
  // The same for leading, whatever n, and for trailing where n divides N.
  for (const int steps : {1, 3, 7, 10, 50, 300})
    CHECK(grid(leading, steps, stride) == grid(leading, steps, from_list));
  for (const int steps : {1, 10, 50}) {
    CAPTURE(steps);
    CHECK(grid(trailing, steps, stride) == grid(trailing, steps, from_list));
  }
  const Grid wrong = grid(linspace, 10, stride);
  const Pairs times = times_of(wrong);
  CHECK(times[0] == std::pair<double, double>{999, 899});
  CHECK(times[1] == std::pair<double, double>{888, 788});
  CHECK(times[2] == std::pair<double, double>{777, 677});
  CHECK(wrong.finish() == Knot{-1, 1, 0});
  CHECK_FALSE(wrong.contiguous());
  CHECK_FALSE(grid(trailing, 7, stride).contiguous());
  CHECK(grid(linspace, 10, from_list).contiguous(0));
}

TEST_CASE("own timesteps and own pairs") {
  const auto schedule = schedule_of(1000);
  const Grid list = make_grid(schedule, 50, {.timesteps = {999, 400.5, 3}});
  CHECK(times_of(list) == Pairs{{999, 400.5}, {400.5, 3}, {3, -1}});
  CHECK(list[0].to == schedule.knot(400.5));
  CHECK(list.finish() == Knot{-1, 1, 0});
  const Grid strided =
      make_grid(schedule, 50, {.previous = PreviousTimestep::stride, .timesteps = {999, 400.5, 3}});
  CHECK(times_of(strided) == Pairs{{999, 666}, {400.5, 67.5}, {3, -1}});
  // Down, back up, down past the end.
  const Grid pairs = make_grid(schedule, 0, {.pairs = {{999, 500}, {500, 800}, {800, -20}}});
  CHECK(times_of(pairs) == Pairs{{999, 500}, {500, 800}, {800, -1}});
  CHECK(pairs.contiguous(0));
  const Grid held = make_grid(schedule, 0, {.set_alpha_to_one = false, .pairs = {{10, -1}}});
  CHECK(held.finish() == schedule.knot(0));
}

TEST_CASE("zero-SNR and single-precision schedules make grids") {
  const auto zero = NoiseSchedule<>::linear({.rescale_zero_terminal_snr = true});
  const Grid grid = make_grid(zero, 10, {.spacing = TimestepSpacing::trailing});
  CHECK(grid.start() == Knot{999, 0, 1});
  const auto single = NoiseSchedule<float>::linear();
  const Grid floats = make_grid(single, 10);
  CHECK(same_level(floats.start(), schedule_of(1000).knot(900), 1e-6));
  CHECK_FALSE(same_level(floats.start(), schedule_of(1000).knot(900), 1e-12));
}

TEST_CASE("continuous grids") {
  using enum TimestepSpacing;
  const RectifiedFlow flow({.time_scale = 1000});
  for (const TimestepSpacing spacing : {leading, trailing, linspace}) {
    const Grid grid = make_grid(flow, 4, {.spacing = spacing});
    CHECK(times_of(grid) == Pairs{{1000, 750}, {750, 500}, {500, 250}, {250, 0}});
    CHECK(grid.finish() == Knot{0, 1, 0});
  }
  CHECK(times_of(make_grid(flow, 4, {.spacing = quadratic})) ==
        Pairs{{1000, 562.5}, {562.5, 250}, {250, 62.5}, {62.5, 0}});
  CHECK(times_of(make_grid(flow, 1)) == Pairs{{1000, 0}});
  CHECK(times_of(make_grid(flow, 9, {.timesteps = {0.75, 0.5}})) == Pairs{{750, 500}, {500, 0}});
  CHECK(times_of(make_grid(flow, 9, {.pairs = {{0, 0.5}, {0.5, 1}}})) ==
        Pairs{{0, 500}, {500, 1000}});
  CHECK(make_grid(flow, 9, {.pairs = {{0.5, -1}}}).finish() == Knot{0, 1, 0});

  // Variance exploding: the first time still has noise, so linspace visits it and then ends at 0.
  const VarianceExploding exploding({.sigma_min = 0.01, .sigma_max = 100});
  const Grid even = make_grid(exploding, 5, {.spacing = linspace});
  const std::array<double, 5> sigmas = {100, 10, 1, 0.1, 0.01};
  for (int i = 0; i < 5; ++i)
    CHECK(even[i].from.sigma == Approx(sigmas[static_cast<std::size_t>(i)]).epsilon(1e-13));
  CHECK(even.finish() == Knot{0, 1, 0});
  const Grid held = make_grid(exploding, 4, {.spacing = trailing, .set_alpha_to_one = false});
  CHECK(held[3].from.sigma == Approx(0.1).epsilon(1e-13));
  CHECK(held.finish() == Knot{0, 1, 0.01});
  CHECK(make_grid(exploding, 4, {.spacing = trailing}).finish() == Knot{0, 1, 0});
  CHECK(times_of(make_grid(exploding, 1, {.spacing = linspace})) == Pairs{{1, 0}});
}

TEST_CASE("every continuous grid of n steps falls from the last time to the first") {
  const auto check = [](const auto& schedule) {
    for (const auto& [name, spacing] : spacings) {
      for (int steps = 1; steps <= 100; ++steps) {
        const Grid grid = make_grid(schedule, steps, {.spacing = spacing});
        bool good = grid.size() == steps && grid.start() == schedule.knot(1) &&
                    grid.finish().sigma == 0 && grid.contiguous(0);
        for (int i = 0; i < steps; ++i)
          good = good && grid[i].from.log_snr() < grid[i].to.log_snr();
        if (!good) {
          CAPTURE(name, steps);
          REQUIRE(good);
        }
      }
    }
  };
  check(VpLinear());
  check(VpCosine());
  check(VarianceExploding());
  check(RectifiedFlow());
}

TEST_CASE("grids on continuous VP linear and on its discrete twin agree to first order") {
  const VpLinear continuous;
  std::vector<double> errors;
  for (const int count : {1000, 2000, 4000, 8000}) {
    const auto twin = NoiseSchedule<>::linear(
        {.train_timesteps = count, .beta_start = 0.1 / count, .beta_end = 20.0 / count});
    const GridOptions options{.spacing = TimestepSpacing::trailing};
    const Grid a = make_grid(continuous, 20, options), b = make_grid(twin, 20, options);
    double error = 0;
    for (int i = 0; i < 20; ++i)
      error = std::max({error, std::abs(a[i].from.alpha - b[i].from.alpha),
                        std::abs(a[i].to.sigma - b[i].to.sigma)});
    errors.push_back(error);
  }
  for (std::size_t i = 0; i + 1 < errors.size(); ++i)
    CHECK(std::log2(errors[i] / errors[i + 1]) == Approx(1).margin(0.05));
}

TEST_CASE("a user's own schedule makes grids") {
  struct Cosine {
    double alpha(double t) const { return std::cos(t); }
    double sigma(double t) const { return std::sin(t); }
    double time(double log_snr) const { return std::atan(std::exp(-log_snr / 2)); }
    double first_time() const { return 0; }
    double last_time() const { return 1.5; }
  };
  CHECK(times_of(make_grid(Cosine{}, 3)) == Pairs{{1.5, 1}, {1, 0.5}, {0.5, 0}});
  struct Table : Cosine {  // trained at the whole times 0 and 1 only
    double sigma(double t) const { return std::sin(t + 0.1); }
    double last_time() const { return 1; }
    int train_timesteps() const { return 2; }
  };
  const Grid grid = make_grid(Table{}, 2);
  CHECK(times_of(grid) == Pairs{{1, 0}, {0, -1}});
  CHECK_THROWS_WITH(make_grid(Table{}, 3), contains("steps is 3") && contains("[1, 2]"));
}

TEST_CASE("a grid through knots, cut and reversed") {
  const std::vector<Knot> knots = {{9, 0, 1}, {6, 0.3, 0.9}, {3, 0.8, 0.6}, {-1, 1, 0}};
  const Grid grid = Grid::through(knots);
  CHECK(grid.size() == 3);
  CHECK(grid.start() == knots[0]);
  CHECK(grid.finish() == knots[3]);
  CHECK(grid[1] == GridStep{knots[1], knots[2]});
  CHECK(grid.contiguous(0));

  const Grid later = grid.cut(1);
  CHECK(later.size() == 2);
  CHECK(later.first_step() == 1);
  CHECK(later.start() == knots[1]);
  CHECK(later.cut(1).first_step() == 2);
  CHECK(grid.cut(0) == grid);
  CHECK(grid.cut(1, 2)[0] == grid[1]);
  CHECK(grid.cut(1, 2).size() == 1);
  CHECK_FALSE(later == Grid::through(std::span(knots).subspan(1)));  // numbered otherwise

  const Grid back = later.reversed();
  CHECK(back.first_step() == 0);
  CHECK(back[0] == GridStep{knots[3], knots[2]});
  CHECK(back[1] == GridStep{knots[2], knots[1]});
  CHECK(back.contiguous(0));
  CHECK(grid.reversed().reversed() == grid);

  // Only the level counts for contiguity, not the time that is told.
  const Grid retold({{{9, 0, 1}, {6, 0.3, 0.9}}, {{5, 0.3, 0.9}, {0, 1, 0}}});
  CHECK(retold.contiguous(0));
  const Grid jump({{{9, 0, 1}, {6, 0.3, 0.9}}, {{6, 0.3, 0.9001}, {0, 1, 0}}});
  CHECK_FALSE(jump.contiguous());
  CHECK(jump.contiguous(1e-3));
}

// ------------------------------------------------------------------------------------------------
// Errors

namespace {

std::function<void()> spaced(int train_timesteps, int steps, TimestepSpacing spacing,
                             int steps_offset = 0) {
  return [=] { spaced_timesteps(train_timesteps, steps, spacing, steps_offset); };
}

std::function<void()> discrete(int steps, GridOptions options) {
  return [=] { make_grid(schedule_of(1000), steps, options); };
}

std::function<void()> continuous(int steps, GridOptions options) {
  return [=] { make_grid(VpLinear(), steps, options); };
}

std::function<void()> one_step(Knot from, Knot to, int first_step = 0) {
  return [=] { Grid({{from, to}}, first_step); };
}

}  // namespace

TEST_CASE("bad timesteps are refused with value and limit") {
  using enum TimestepSpacing;
  check_refusals({
      {"no steps", spaced(1000, 0, leading), {"steps is 0", "[1, 1000]"}},
      {"steps below", spaced(1000, -5, trailing), {"steps is -5", "[1, 1000]"}},
      {"steps above", spaced(1000, 1001, linspace), {"steps is 1001", "[1, 1000]"}},
      {"steps above", spaced(50, 51, quadratic), {"steps is 51", "[1, 50]"}},
      {"no training", spaced(0, 1, leading), {"train_timesteps is 0", "at least 1"}},
      {"offset below", spaced(1000, 10, leading, -1), {"steps_offset is -1", "[0, 999]"}},
      {"offset above", spaced(1000, 10, trailing, 1000), {"steps_offset is 1000", "[0, 999]"}},
      {"offset past the end",
       spaced(1000, 1000, leading, 1),
       {"steps_offset is 1", "[0, 0]", "999"}},
      {"offset past the end",
       spaced(1000, 10, leading, 100),
       {"steps_offset is 100", "[0, 99]", "timestep 900"}},
      {"offset past the end",
       spaced(1000, 10, quadratic, 200),
       {"steps_offset is 200", "[0, 199]", "timestep 800"}},
      {"spacing below", spaced(1000, 10, static_cast<TimestepSpacing>(-1)), {"-1", "[0, 3]"}},
      {"spacing above", spaced(1000, 10, static_cast<TimestepSpacing>(4)), {"is 4", "[0, 3]"}},
      {"leading", [] { leading_timesteps(10, 11); }, {"steps is 11", "[1, 10]"}},
      {"trailing", [] { trailing_timesteps(10, 0); }, {"steps is 0", "[1, 10]"}},
      {"linspace", [] { linspace_timesteps(-1, 1); }, {"train_timesteps is -1", "at least 1"}},
      {"quadratic", [] { quadratic_timesteps(10, 2, -3); }, {"steps_offset is -3", "[0, "}},
  });
}

TEST_CASE("bad grid options are refused with value and limit") {
  const auto spacing = [](int i) { return static_cast<TimestepSpacing>(i); };
  const auto previous = [](int i) { return static_cast<PreviousTimestep>(i); };
  const Times many(1001, 0.0);
  Times falling(1001);
  for (std::size_t i = 0; i < falling.size(); ++i) falling[i] = 999 - 0.9 * static_cast<double>(i);
  check_refusals({
      {"no steps", discrete(0, {}), {"steps is 0", "[1, 1000]"}},
      {"too many", discrete(1001, {}), {"steps is 1001", "[1, 1000]"}},
      {"spacing below", discrete(10, {.spacing = spacing(-1)}), {"spacing is -1", "[0, 3]"}},
      {"spacing above", continuous(10, {.spacing = spacing(4)}), {"spacing is 4", "[0, 3]"}},
      {"offset below", discrete(10, {.steps_offset = -2}), {"steps_offset is -2", "[0, 999]"}},
      {"offset above", discrete(10, {.steps_offset = 1234}), {"is 1234", "[0, 999]"}},
      {"offset past", discrete(1000, {.steps_offset = 1}), {"steps_offset is 1", "[0, 0]"}},
      {"previous below", discrete(10, {.previous = previous(-1)}), {"is -1", "[0, 1]"}},
      {"previous above", discrete(10, {.previous = previous(2)}), {"is 2", "[0, 1]"}},
      {"first too late", discrete(1, {.timesteps = {1000}}), {"[0] is 1000", "[0, 999]"}},
      {"below 0", discrete(1, {.timesteps = {5, -1}}), {"timesteps[1] is -1", "[0, 999]"}},
      {"NaN", discrete(1, {.timesteps = {not_a_number}}), {"[0] is", "nan", "[0, 999]"}},
      {"rising", discrete(1, {.timesteps = {5, 7}}), {"[1] is 7", "less than", "[0] = 5"}},
      {"repeated", discrete(1, {.timesteps = many}), {"[1] is 0", "less than", "[0] = 0"}},
      {"stride 0",
       discrete(1, {.previous = PreviousTimestep::stride, .timesteps = falling}),
       {"is 1001", "[1, 1000]"}},
      {"list and pairs",
       discrete(1, {.timesteps = {5}, .pairs = {{7, 5}, {5, 2}}}),
       {"1 entries", "2 pairs", "must be empty"}},
      {"from above", discrete(1, {.pairs = {{1000, 5}}}), {"pairs[0] is 1000", "[0, 999]"}},
      {"from below", discrete(1, {.pairs = {{5, 3}, {-1, 3}}}), {"pairs[1] is -1", "[0, 999]"}},
      {"to above", discrete(1, {.pairs = {{5, 1200}}}), {"pairs[0] is 1200", "at most 999"}},
      {"to NaN", discrete(1, {.pairs = {{5, not_a_number}}}), {"nan", "at most 999"}},
      {"standing", discrete(1, {.pairs = {{5, 5}}}), {"pairs[0] is 5", "differ"}},
      {"no steps", continuous(0, {}), {"steps is 0", "[1, 1000000]"}},
      {"too many", continuous(1000001, {}), {"steps is 1000001", "[1, 1000000]"}},
      {"offset", continuous(10, {.steps_offset = 1}), {"continuous", "is 1", "[0, 0]"}},
      {"stride", continuous(10, {.previous = PreviousTimestep::stride}), {"stride", "from_list"}},
      {"late", continuous(10, {.timesteps = {1.5}}), {"timesteps[0] is 1.5", "[0, 1]"}},
      {"clean", continuous(10, {.timesteps = {0.5, 0}}), {"timesteps[1] is 0", "above 0"}},
      {"from above", continuous(10, {.pairs = {{1.25, 0}}}), {"pairs[0] is 1.25", "[0, 1]"}},
      {"to above", continuous(10, {.pairs = {{0.5, 2}}}), {"pairs[0] is 2", "at most 1"}},
  });
}

TEST_CASE("bad grids are refused with value and limit") {
  const Knot good{1, 0.6, 0.8};
  const Grid grid = Grid::through(std::vector<Knot>{{2, 0, 1}, {1, 0.6, 0.8}, {0, 1, 0}});
  check_refusals({
      {"empty", [] { Grid({}); }, {"0 steps", "at least 1"}},
      {"one knot", [&] { Grid::through(std::vector<Knot>{good}); }, {"is 1", "at least 2"}},
      {"first step", one_step(good, good, -1), {"first_step is -1", "at least 0"}},
      {"t", one_step({infinity, 1, 0}, good), {"t of from in grid step 0 is inf", "finite"}},
      {"NaN t", one_step({not_a_number, 1, 0}, good), {"t of from", "nan", "finite"}},
      {"alpha", one_step(good, {0, -0.5, 1}), {"alpha of to", "is -0.5", "at least 0"}},
      {"NaN alpha", one_step(good, {0, not_a_number, 1}), {"alpha of to", "nan", "at least 0"}},
      {"infinite alpha", one_step({0, infinity, 1}, good), {"alpha of from", "inf", "finite"}},
      {"sigma", one_step({0, 1, -2}, good), {"sigma of from", "is -2", "at least 0"}},
      {"infinite sigma", one_step({0, 1, infinity}, good), {"sigma of from", "inf", "finite"}},
      {"both 0", one_step(good, {0, 0, 0}), {"sigma of to", "is 0", "above 0 where alpha"}},
      {"cut below", [&] { grid.cut(-1); }, {"begin of the cut is -1", "[0, 1]"}},
      {"cut above", [&] { grid.cut(2); }, {"begin of the cut is 2", "[0, 1]"}},
      {"empty cut", [&] { grid.cut(1, 1); }, {"end of the cut is 1", "[2, 2]"}},
      {"cut past the end", [&] { grid.cut(0, 3); }, {"end of the cut is 3", "[1, 2]"}},
  });
}
