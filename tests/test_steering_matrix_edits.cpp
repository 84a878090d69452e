// Every edit, and every inversion, with every sampler and prediction type, on Gaussian clips: the
// law of the run against the definition. `test-steering-matrix-edits "[.print]"` prints the table
// of docs/steering.md.

#include "steering_zoo.hpp"

#include <diffusion/edit/ddpm_inversion.hpp>
#include <diffusion/edit/differential.hpp>
#include <diffusion/edit/ilvr.hpp>
#include <diffusion/edit/image_to_image.hpp>
#include <diffusion/edit/inpaint.hpp>
#include <diffusion/edit/inversion.hpp>
#include <diffusion/edit/repaint.hpp>

using namespace steering;

namespace {

const Vector hard{{1, 0, 0, 1, 1, 0, 0, 0}}, soft{{1, 0.5, 0, 0.25, 1, 0, 0.75, 0}};

double ratio(const Knot& at) { return at.sigma / at.alpha; }

/// x <- m (alpha' y + sigma' n) + (1 - m) x.
void blend(const Matrix& known, const Vector& mask, Matrix& x) {
  x = mask.asDiagonal() * known + (Vector::Ones(d) - mask).asDiagonal() * x;
}
Definition blending(const Vector& mask) {
  const auto act = [mask](Propagation& law, Matrix& x, const Knot& at) {
    blend(law.noised(picture(), law.fresh(), at), mask, x);
  };
  return {
      .start = act,
      .state = [act](Propagation& law, Matrix& x, const Stage& s, const Matrix&, const Matrix&) {
        if (s.ask) act(law, x, s.to);
      }};
}
Definition replacing(const Vector& mask) {
  return {.x0 = [mask](const Matrix& x, const Stage& s) {
    Matrix x0 = estimate(clips(), x, s.at), y = Matrix::Zero(d, x.cols());
    y.col(0) = picture();
    blend(y, mask, x0);
    return x0;
  }};
}

/// The part of the grid where image to image starts: by steps, by the nearest level, exactly.
using Start = std::function<Grid(const AnySampler&)>;
Row image_row(const std::string& name, const Start& start) {
  return {name, "from alpha y + sigma n", [=](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan(start(c.sampler));
            Clip known(impulse_batch(plan), frames, width);
            for (Eigen::Index i = 0; i < known.size(); ++i) known.data()[i] = picture()[i % d];
            const Clip x =
                image_to_image(c.sampler, exact_network(clips(), c.type), known, start(c.sampler),
                               impulses(), {.prediction_type = c.type});
            const auto from = [](Propagation& law, Matrix& state, const Knot& at) {
              state = law.noised(picture(), law.unit(0), at);
            };
            return {Result::exact,
                    apart(law_of_batch(x), defined(plan, clips(), c.type, {.start = from}))};
          }};
}

Row differential_row() {
  const Vector strengths{{0, 0.2, 0.4, 0.5, 0.7, 0.9, 1, 1}};
  return {
      "differential", "each from its own level", [=](const Case& c) -> Result {
        const SamplingPlan plan = c.sampler.plan();
        const Grid grid = c.sampler.grid();
        const auto held = [=](Propagation& law, Matrix& x, const Knot& at) {
          const Matrix known = law.noised(picture(), law.unit(0), at);
          for (Eigen::Index i = 0; i < d; ++i) {
            const int left = static_cast<int>(std::floor(strengths[i] * grid.size()));
            if (left == 0 || ratio(at) >= ratio(grid[grid.size() - left].from) * (1 - 1e-9))
              x.row(i) = known.row(i);
          }
        };
        const Definition definition{
            .start = held,
            .state = [=](Propagation& law, Matrix& x, const Stage& s, const Matrix&,
                         const Matrix&) { held(law, x, s.to); }};
        const AnyEdit edit{Differential(grid, clip_of(picture()), clip_of(strengths), impulses())};
        return {Result::exact, apart(run_law(plan, c.type, exact_network(clips(), c.type), edit),
                                     defined(plan, clips(), c.type, definition))};
      }};
}

Row repaint_row() {
  return {
      "RePaint", "the blend on its plan", [](const Case& c) -> Result {
        const SamplingPlan plan = repaint_plan(c.sampler, {.jump_length = 2, .jump_n_sample = 2});
        const AnyEdit edit{Inpaint(clip_of(picture()), clip_of(hard), impulses())};
        return {Result::exact, apart(run_law(plan, c.type, exact_network(clips(), c.type), edit),
                                     defined(plan, clips(), c.type, blending(hard)))};
      }};
}

/// Blocks of 2 x 2: frames are height here, pixels width.
Matrix low() {
  Matrix halves_of_frames = Matrix::Zero(frames, frames);
  halves_of_frames.block(0, 0, 2, 2).setConstant(0.5);
  halves_of_frames.block(2, 2, 2, 2).setConstant(0.5);
  return over_pixels(halves_of_frames, Matrix::Constant(width, width, 0.5));
}

// ---- inversion ---------------------------------------------------------------------------------

bool deterministic(const Case& c) { return c.sampler.plan().draws() == 0; }
bool many_stages(const Case& c) { return c.sampler.plan().size() != c.sampler.plan().steps(); }
bool has_history(const Case& c) { return c.sampler.plan().traits().slots > 0; }

Clip pictures() {
  Clip all(4, frames, width);
  for (Eigen::Index k = 0; k < 4; ++k)
    for (Eigen::Index i = 0; i < d; ++i)
      all(k, i / width, i % width) = picture()[(i + 3 * k) % d] - 0.2 * static_cast<double>(k);
  return all;
}

/// What must be refused is refused with these words.
Result refused(const std::function<void()>& act, const char* says, const char* why) {
  try {
    act();
  } catch (const Error& error) {
    if (std::string(error.what()).find(says) != std::string::npos) return {Result::refused, 0, why};
    return {Result::refused, HUGE_VAL, error.what()};
  }
  return {Result::refused, HUGE_VAL, "not refused"};
}

Row inversion_row(const std::string& name, InversionMethod method, double limit) {
  return {name, "error there and back", [=](const Case& c) -> Result {
            const auto found = [&] {
              return invert(
                  c.sampler, exact_network(clips(), c.type), pictures(),
                  {.method = method, .round_trip = true, .iterations = 200, .tolerance = 1e-9},
                  {.prediction_type = c.type});
            };
            if (!deterministic(c)) return refused(found, "noise", "adds noise");
            if (method == InversionMethod::target_time && many_stages(c))
              return refused(found, "more than one stage", "two calls a step");
            if (method == InversionMethod::fixed_point && has_history(c) && !many_stages(c))
              return refused(found, "earlier", "has history");
            if (has_history(c) && !many_stages(c) && c.sampler.grid().start().alpha == 0) {
              // No way back to pure noise for it; the number is that of the other types.
              const Result back = refused(found, "to less noise", "");
              return {Result::number, back.error, {}, limit};
            }
            return {Result::number, found().round_trip.value(), {}, limit};
          }};
}

Row edit_friendly_row() {
  return {"edit-friendly inversion", "there and back", [](const Case& c) -> Result {
            const Network network = exact_network(clips(), c.type);
            const SampleOptions options{.prediction_type = c.type};
            const auto found = [&] {
              return invert_ddpm(c.sampler, network, pictures(), normals(2), {}, options);
            };
            if (has_history(c)) return refused(found, "stage", "stages do not stand alone");
            if (deterministic(c)) return refused(found, "adds noise", "adds no noise");
            const Clip back = resume(found(), network, 0, options);
            return {Result::exact, apart(back, pictures())};
          }};
}

std::vector<Row> rows() {
  const Clip y = clip_of(picture());
  std::vector<Row> rows;
  rows.push_back(image_row("image to image, strength 0.5", [](const AnySampler& sampler) {
    return grid_from_strength(sampler.grid(), 0.5);
  }));
  rows.push_back(image_row("image to image, the level 0.8, nearest", [](const AnySampler& sampler) {
    return grid_from_level(sampler.grid(), 0.8);
  }));
  for (const bool is_soft : {false, true}) {
    const Vector& mask = is_soft ? soft : hard;
    const std::string tail = is_soft ? ", soft mask" : "";
    rows.push_back(edited(
        "inpainting, blend" + tail, "x <- m (alpha' y + sigma' n) + (1 - m) x",
        [=](const SamplingPlan&) { return AnyEdit(Inpaint(y, clip_of(mask), impulses())); },
        blending(mask)));
    rows.push_back(edited(
        "inpainting, x0" + tail, "x0 <- m y + (1 - m) x0",
        [=](const SamplingPlan&) { return AnyEdit(InpaintX0(y, clip_of(mask))); },
        replacing(mask)));
  }
  rows.push_back({"inpainting, blend: what is known", "y at the end", [=](const Case& c) -> Result {
                    const Clip x =
                        sampled(c.sampler.plan(), c.type, exact_network(clips(), c.type), 4,
                                normals(1), AnyEdit(Inpaint(y, clip_of(hard), normals(1))));
                    double most = 0;
                    for (Eigen::Index i = 0; i < x.size(); ++i)
                      if (hard[i % d] == 1)
                        most = std::max(most, std::abs(x.data()[i] - picture()[i % d]));
                    return {Result::exact, most};
                  }});
  rows.push_back(differential_row());
  rows.push_back(repaint_row());
  rows.push_back(edited(
      "ILVR", "x <- x + low(alpha' y + sigma' n - x)",
      [=](const SamplingPlan&) { return AnyEdit(Ilvr(y, impulses(), IlvrOptions{.factor = 2})); },
      {.state = [](Propagation& law, Matrix& x, const Stage& s, const Matrix&, const Matrix&) {
        if (s.ask) x += low() * (law.noised(picture(), law.fresh(), s.to) - x);
      }}));
  rows.push_back(inversion_row("inversion, reversed", InversionMethod::reversed, 1));
  rows.push_back(inversion_row("inversion, target time", InversionMethod::target_time, 1));
  rows.push_back(inversion_row("inversion, fixed point", InversionMethod::fixed_point, 1e-4));
  rows.push_back(edit_friendly_row());
  return rows;
}

const Table& table() {
  static const Table made = make_table("edits", "test_steering_matrix_edits.cpp", rows());
  return made;
}

}  // namespace

TEST_CASE("Edits are what they say with every sampler and prediction type") { table().check(); }
TEST_CASE("docs/steering.md shows the matrix of edits as it is") { table().check_page(); }
TEST_CASE("The matrix of edits, printed", "[.print]") { table().print(); }
