// Every method for inverse problems, time by the element and clips with every sampler and
// prediction type, on Gaussian clips: the law of the run against the definition.
// `test-steering-matrix-clips "[.print]"` prints the tables of docs/steering.md.

#include "steering_zoo.hpp"

#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/inverse/ddnm.hpp>
#include <diffusion/inverse/ddnm_plus.hpp>
#include <diffusion/inverse/ddrm.hpp>
#include <diffusion/inverse/dps.hpp>
#include <diffusion/inverse/jacobians.hpp>
#include <diffusion/inverse/pigdm.hpp>
#include <diffusion/sampling/sliced.hpp>
#include <diffusion/video/continuation.hpp>
#include <diffusion/video/forcing.hpp>
#include <diffusion/video/free_init.hpp>
#include <diffusion/video/free_noise.hpp>
#include <diffusion/video/noise_priors.hpp>
#include <diffusion/video/rolling.hpp>
#include <diffusion/video/windows.hpp>

#include <numbers>

using namespace steering;

namespace {

// ---- inverse problems --------------------------------------------------------------------------

InverseProblem<DenseOperator> problem(double sigma_y) {
  return {DenseOperator(halves().A), halves().y, sigma_y};
}
/// A^T (variance A A^T + sigma_y^2)^-1 (y - A x0).
Matrix likelihood_gradient(const Matrix& x0, double variance, double sigma_y) {
  const Matrix A = halves().A;
  return A.transpose() *
         (variance * A * A.transpose() + sigma_y * sigma_y * Matrix::Identity(2, 2)).inverse() *
         residual(halves(), x0);
}
/// The rows of A are orthogonal and of this length: its singular value in both directions.
double singular() { return halves().A.row(0).norm(); }
/// Onto what is measured.
Matrix measured_part() { return halves().A.transpose() * halves().A / (singular() * singular()); }
/// A^+ y.
Vector seen() { return halves().A.transpose() * halves().y / (singular() * singular()); }

Definition ddrm(double sigma_y, double eta) {
  const auto mix = [=](const Matrix& in, const Matrix& out) -> Matrix {
    return measured_part() * in + (Matrix::Identity(d, d) - measured_part()) * out;
  };
  const double tau = sigma_y / singular(), kept = std::sqrt(1 - eta * eta);
  return {
      .start =
          [=](Propagation& law, Matrix& x, const Knot& at) {
            const double left = at.sigma * at.sigma - std::pow(at.alpha * tau, 2);
            x = mix(left < 0 ? Matrix(at.sigma * law.unit(0))
                             : law.noised(seen(), std::sqrt(left) / at.sigma * law.unit(0), at),
                    x);
          },
      .state =
          [=](Propagation& law, Matrix& x, const Stage& s, const Matrix& before, const Matrix& x0) {
            if (!s.ask) return;
            const Matrix n = law.fresh(), eps = (before - s.at.alpha * x0) / s.at.sigma;
            const Matrix free = s.to.alpha * x0 + s.to.sigma * (kept * eps + eta * n);
            Matrix gap = -x0;
            gap.col(0) += seen();
            const double left = s.to.sigma * s.to.sigma - std::pow(s.to.alpha * tau, 2);
            const Matrix in =
                left < 0
                    ? Matrix(s.to.alpha * x0 + kept * s.to.sigma / tau * gap + eta * s.to.sigma * n)
                    : Matrix(s.to.alpha * (x0 + gap) + std::sqrt(left) * n);
            x = mix(in, free);
          }};
}

std::vector<Row> restoration() {
  constexpr double sigma_y = 0.3;
  std::vector<Row> rows;
  rows.push_back(guided(
      "DDNM, no noise", "x0 + A^+ (y - A x0)",
      [](const PredictionType& type) {
        return hold(Ddnm{exact_network(clips(), type), problem(0)});
      },
      [](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix x0 = estimate(clips(), x, s.at);
        return x0 + likelihood_gradient(x0, 1, 0);
      }));
  rows.push_back(guided(
      "DDNM, noise", "the same, weakened",
      [=](const PredictionType& type) {
        return hold(Ddnm{exact_network(clips(), type), problem(sigma_y)});
      },
      [=](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix x0 = estimate(clips(), x, s.at);
        const double hidden = singular() * s.to.sigma / (s.to.alpha * sigma_y);
        return x0 + std::min(1.0, hidden) * likelihood_gradient(x0, 1, 0);
      }));
  rows.push_back(
      {"DDNM+, noise", "DDNM if sigma_y = 0", [=](const Case& c) -> Result {
         const SamplingPlan plan = c.sampler.plan();
         const Network network = exact_network(clips(), c.type);
         const auto run = [&](double noise) {
           return sampled(plan, c.type, network, 16, normals(1), AnyEdit(DdnmPlus{problem(noise)}));
         };
         if (plan.draws() == 0) {
           try {
             run(sigma_y);
           } catch (const Error& error) {
             const std::string says = error.what();
             return {Result::refused, says.find("adds no noise") < says.size() ? 0.0 : 1.0,
                     "adds no noise"};
           }
           return {Result::refused, 1, "not refused"};
         }
         // Without noise it is DDNM.
         const Clip ddnm = sampled(plan, c.type, hold(Ddnm{network, problem(0)}), 16, normals(1));
         return {Result::finite, all_finite(run(sigma_y)) ? apart(run(0), ddnm) : HUGE_VAL};
       }});
  rows.push_back({"DDRM", "the paper's eq. 7, 8", [=](const Case& c) -> Result {
                    const SamplingPlan plan = c.sampler.plan();
                    const AnyEdit edit{
                        Ddrm{problem(sigma_y), impulses(d * (1 + plan.draws()), 1), DdrmOptions{}}};
                    return {Result::exact,
                            apart(run_law(plan, c.type, exact_network(clips(), c.type), edit),
                                  defined(plan, clips(), c.type, ddrm(sigma_y, 0.85)))};
                  }});
  rows.push_back({"PiGDM, data of one deviation", "p(x0 given y)", [=](const Case& c) -> Result {
                    const SamplingPlan plan = c.sampler.plan();
                    const Gaussian given = posterior(independent(), halves());
                    const Network network = hold(Pigdm{
                        exact_network(independent(), c.type), problem(sigma_y),
                        exact_vector_jacobian(independent()), PigdmOptions{.data_deviation = 0.6}});
                    return {Result::exact,
                            apart(run_law(plan, c.type, network), defined(plan, given, c.type))};
                  }});
  rows.push_back(guided(
      "PiGDM, other data", "x0 + sigma^2 / alpha J A^T (...)^-1 (y - A x0)",
      [=](const PredictionType& type) {
        return hold(Pigdm{exact_network(clips(), type), problem(sigma_y),
                          exact_vector_jacobian(clips()), PigdmOptions{}});
      },
      [=](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix x0 = estimate(clips(), x, s.at);
        const double square = s.at.sigma * s.at.sigma;
        const double r2 = square / (s.at.alpha * s.at.alpha + square);
        if (s.at.alpha == 0) return x0 + r2 * likelihood_gradient(x0, r2, sigma_y);
        if (s.at.sigma == 0) return x0;
        return x0 +
               square / s.at.alpha * jacobian(clips(), s.at) * likelihood_gradient(x0, r2, sigma_y);
      }));
  const auto pulled = [](const Stage& s, const Matrix& x0) -> Matrix {
    return jacobian(clips(), s.at) * halves().A.transpose() * residual(halves(), x0);
  };
  rows.push_back(edited(
      "DPS, plain gradient", "x' + zeta J A^T (y - A x0)",
      [=](const SamplingPlan&) {
        return AnyEdit(Dps{problem(sigma_y), exact_vector_jacobian(clips()),
                           DpsOptions{.zeta = 0.3, .normalised = false}});
      },
      {.state = [=](Propagation&, Matrix& x, const Stage& s, const Matrix&, const Matrix& x0) {
        if (s.ask && (s.at.sigma != s.to.sigma || s.at.alpha != s.to.alpha))
          x += 0.3 * pulled(s, x0);
      }}));
  rows.push_back({"DPS, normalised", "plain run at zeta = 0", [=](const Case& c) -> Result {
                    const SamplingPlan plan = c.sampler.plan();
                    const Network network = exact_network(clips(), c.type);
                    const auto run = [&](double zeta) {
                      return sampled(plan, c.type, network, 16, normals(1),
                                     AnyEdit(Dps{problem(sigma_y), exact_vector_jacobian(clips()),
                                                 DpsOptions{.zeta = zeta}}));
                    };
                    const Clip plain = sampled(plan, c.type, network, 16, normals(1));
                    const Clip moved = run(0.3);
                    const bool fine = all_finite(moved) && apart(moved, plain) > 1e-3;
                    return {Result::finite, fine ? apart(run(0), plain) : HUGE_VAL};
                  }});
  return rows;
}

// ---- time by the element -----------------------------------------------------------------------

/// The perfect network of independent elements, told where each part stands.
struct ElementNetwork {
  PredictionType type;
  std::vector<int> part_of;  // of each element

  void operator()(const Clip& x, const Query& query, Clip& out) const {
    const auto parts = static_cast<std::size_t>(part_of.back()) + 1;
    const auto n = static_cast<std::size_t>(x.dimension(1) * x.dimension(2));
    for (std::size_t i = 0; i < static_cast<std::size_t>(x.size()); ++i) {
      const std::size_t slice = i / n * parts + static_cast<std::size_t>(part_of[i % n]);
      const Knot at =
          query.levels.empty() ? Knot{query.t, query.alpha, query.sigma} : query.levels[slice];
      const double z = x.data()[i] - 0.4 * at.alpha;
      const double spread = 0.36 * at.alpha * at.alpha + at.sigma * at.sigma;
      const double x0 = 0.4 + 0.36 * at.alpha / spread * z, eps = at.sigma / spread * z;
      const Target f = target(type, at);
      out.data()[i] = f.on_x0 * x0 + f.on_eps * eps;
    }
  }
};
std::vector<int> frame_parts() { return {0, 0, 1, 1, 2, 2, 3, 3}; }

Row sliced_row(const std::string& name, const Slices& slices, const std::vector<int>& part_of,
               const std::function<SliceSchedule(int)>& schedule) {
  return {name, "plain run", [=](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan();
            const Clip x = sample_sliced<Clip>(
                plan, ElementNetwork{c.type, part_of}, {impulse_batch(plan), frames, width},
                impulses(), slices, schedule(plan.steps()), {.prediction_type = c.type});
            return {Result::exact, apart(law_of_batch(x), defined(plan, independent(), c.type))};
          }};
}

Row queue_row() {
  return {"frame queue", "plain run", [](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan();
            const Eigen::Index window = plan.steps();
            std::vector<int> one(static_cast<std::size_t>(width)), parts;
            for (int f = 0; f < static_cast<int>(window); ++f) parts.insert(parts.end(), {f, f});
            const SampleOptions options{.prediction_type = c.type};
            const Noise noise = normals(3);
            FrameQueue<Clip, Noise> queue(plan, {1, window, width}, 1, noise, {}, options);
            const Clip plain =
                sample<Clip>(plan, ElementNetwork{c.type, one}, {5, 1, width}, noise, options);
            double most = 0;
            for (Eigen::Index f = 0; f < 5; ++f) {
              const Clip frame = queue.next(ElementNetwork{c.type, parts});
              for (Eigen::Index i = 0; i < width; ++i)
                most = std::max(most, std::abs(frame.data()[i] - plain(f, 0, i)));
            }
            return {Result::exact, most};
          }};
}

// ---- clips -------------------------------------------------------------------------------------

const FrameLayout layout{frames, width, 1};

/// A noise prior, against runs whose noise has the covariance `of_frames`. Frame noise is computed
/// in float.
Row prior_row(const std::string& name, const std::function<Noise(const SamplingPlan&)>& noise,
              const Matrix& of_frames, bool all_draws) {
  return {
      name, "covariance over frames", [=](const Case& c) -> Result {
        const SamplingPlan plan = c.sampler.plan();
        const Eigen::SelfAdjointEigenSolver<Matrix> found(of_frames);
        const Vector deviations = found.eigenvalues().cwiseMax(0).cwiseSqrt();
        const Matrix root = found.eigenvectors() * deviations.asDiagonal();
        const Definition definition{.root = over_pixels(root, Matrix::Identity(width, width)),
                                    .root_of_draws = all_draws};
        const Law law = run_law(plan, c.type, exact_network(clips(), c.type), {}, noise(plan));
        return {Result::exact, apart(law, defined(plan, clips(), c.type, definition)), {}, 1e-6};
      }};
}

/// The low-pass of FreeInit's filter over 4 frames: frequencies 0, 1/2, 1, 1/2.
Matrix filter_of_frames(const std::function<double(double)>& gain) {
  Matrix low(frames, frames);
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index g = 0; g < frames; ++g) {
      double sum = 0;
      for (int k = 0; k < 4; ++k) {
        const double turns = std::min(k, 4 - k) / 2.0;
        sum += gain(turns) *
               std::cos(std::numbers::pi / 2 * static_cast<double>(k) * static_cast<double>(f - g));
      }
      low(f, g) = sum / 4;
    }
  return over_pixels(low, Matrix::Identity(width, width));
}

Row free_init_row() {
  return {"FreeInit, 2 runs", "both runs by hand", [](const Case& c) -> Result {
            const SamplingPlan plan = c.sampler.plan();
            const Network network = exact_network(clips(), c.type);
            const FreeInitOptions init{.iterations = 2,
                                       .filter = FrequencyFilter::butterworth(1),
                                       .axes = {{.dimension = 1, .limit = 0.5}}};
            const Clip x =
                sample_free_init<Clip>(plan, network, {impulse_batch(plan), frames, width},
                                       impulses(), init, {.prediction_type = c.type});
            const auto h = [](double turns) { return 1 / (1 + turns * turns / 0.25); };
            const Matrix low = filter_of_frames(h);
            const Matrix high =
                filter_of_frames([&](double turns) { return std::sqrt(1 - h(turns) * h(turns)); });
            Propagation law(plan);
            const Knot at = plan[0].at;
            const Matrix first = law.run(clips(), c.type, {});
            const Matrix again = low * (at.alpha * first + at.sigma * law.unit(0)) +
                                 plan.traits().initial_scale * high * law.unit(1 + plan.draws());
            return {Result::exact,
                    apart(law_of_batch(x), inverse::law_of(law.run(clips(), c.type, {}, again)))};
          }};
}

/// Of a window of two frames, wherever it lies.
Gaussian window_data() {
  return Gaussian(clips().mean().head(2 * width),
                  clips().covariance().topLeftCorner(2 * width, 2 * width).eval());
}

std::vector<Row> clips_rows() {
  std::vector<Row> rows;
  const auto lag = [](double uncertainty) {
    return [=](int n) { return pyramid(n, frames, uncertainty); };
  };
  rows.push_back(sliced_row("frames in step", Slices::along(1), frame_parts(), lag(0)));
  rows.push_back(sliced_row("pyramid", Slices::along(1), frame_parts(), lag(2)));
  rows.push_back(sliced_row("rolling", Slices::along(1), frame_parts(),
                            [](int n) { return rolling(n, frames, 2); }));
  const std::vector<int> tokens{0, 1, 1, 2, 0, 2, 3, 3};
  rows.push_back(sliced_row("tokens", Slices::by_element(tokens), tokens, lag(1)));
  rows.push_back(queue_row());

  const inverse::Source own{.d = static_cast<std::uint64_t>(d)};
  Matrix mixed(frames, frames), progressive(frames, frames), same(frames, frames);
  const FreeNoiseOptions free{.window = 2, .stride = 2};
  const auto from = free_noise_frames(static_cast<std::uint64_t>(frames), free);
  for (Eigen::Index f = 0; f < frames; ++f)
    for (Eigen::Index g = 0; g < frames; ++g) {
      mixed(f, g) = f == g ? 1 : 0.5;
      progressive(f, g) = std::pow(0.5, std::abs(static_cast<double>(f - g)) / 2);
      same(f, g) = from[static_cast<std::size_t>(f)] == from[static_cast<std::size_t>(g)] ? 1 : 0;
    }
  rows.push_back(prior_row(
      "mixed noise",
      [=](const SamplingPlan& plan) {
        const auto behind = static_cast<std::uint64_t>(d * (1 + plan.draws()));
        const inverse::Source shared{.d = static_cast<std::uint64_t>(width), .first = behind};
        return noise_of(mixed_noise(own, shared, layout));
      },
      mixed, true));
  rows.push_back(prior_row(
      "progressive noise",
      [=](const SamplingPlan&) { return noise_of(progressive_noise(own, layout)); }, progressive,
      true));
  rows.push_back(prior_row(
      "FreeNoise", [=](const SamplingPlan&) { return noise_of(free_noise(own, layout, free)); },
      same, false));
  rows.push_back(free_init_row());

  rows.push_back(
      {"windows of frames, independent elements", "plain run", [](const Case& c) -> Result {
         const SamplingPlan plan = c.sampler.plan();
         const ElementNetwork network{c.type, std::vector<int>(d)};
         const WindowOptions windows{.axes = {{.dimension = 1, .size = 3, .stride = 1}}};
         return {Result::exact,
                 apart(run_law(plan, c.type, hold(WindowedDenoiser{network, windows})),
                       defined(plan, independent(), c.type))};
       }});
  rows.push_back(guided(
      "windows of frames", "mean of the windows' x0",
      [](const PredictionType& type) {
        return hold(WindowedDenoiser{
            exact_network(window_data(), type),
            {.axes = {{.dimension = 1, .size = 2, .stride = 1, .blend = WindowBlend::uniform}}}});
      },
      [](const Matrix& x, const Stage& s) -> Matrix {
        Matrix sum = Matrix::Zero(d, x.cols());
        Vector count = Vector::Zero(d);
        for (Eigen::Index begin = 0; begin + 2 <= frames; ++begin) {
          sum.middleRows(begin * width, 2 * width) +=
              estimate(window_data(), x.middleRows(begin * width, 2 * width), s.at);
          count.segment(begin * width, 2 * width).array() += 1;
        }
        return count.cwiseInverse().asDiagonal() * sum;
      }));
  rows.push_back(guided(
      "windows all around the pixels", "plain run: each sees all",
      [](const PredictionType& type) {
        return hold(
            WindowedDenoiser{exact_network(clips(), type),
                             {.axes = {{.dimension = 2, .size = 2, .stride = 1, .wrap = true}}}});
      },
      [](const Matrix& x, const Stage& s) { return estimate(clips(), x, s.at); }));

  Vector mask = Vector::Zero(d);
  mask.head(4).setOnes();
  Clip context(1, 2, width);
  for (Eigen::Index i = 0; i < context.size(); ++i) context.data()[i] = picture()[i];
  const auto put = [=](Propagation& law, Matrix& x, const Knot& at) {
    const Matrix known = law.noised(picture(), law.fresh(), at);
    x.topRows(4) = known.topRows(4);
  };
  rows.push_back(edited(
      "continuation by replacement", "the blend of the first frames",
      [=](const SamplingPlan&) {
        return AnyEdit(continue_by_replacement(context, frames, 1, impulses()));
      },
      {.start = put,
       .state = [=](Propagation& law, Matrix& x, const Stage& s, const Matrix&, const Matrix&) {
         if (s.ask) put(law, x, s.to);
       }}));
  rows.push_back(guided(
      "reconstruction guidance", "x0 - w alpha / 2 grad",
      [=](const PredictionType& type) {
        return hold(ReconstructionGuidance{exact_network(clips(), type),
                                           exact_vector_jacobian(clips()), clip_of(picture()),
                                           clip_of(mask), ReconstructionOptions{.weight = 2}});
      },
      [=](const Matrix& x, const Stage& s) -> Matrix {
        const Matrix x0 = estimate(clips(), x, s.at);
        Matrix off = x0;
        off.col(0) -= picture();
        const Matrix half = jacobian(clips(), s.at) * mask.asDiagonal() * off;
        return x0 - 2 * s.at.alpha * ((Vector::Ones(d) - mask).asDiagonal() * half);
      }));
  return rows;
}

const Table& restoration_table() {
  static const Table made =
      make_table("restoration", "test_steering_matrix_clips.cpp", restoration());
  return made;
}
const Table& clips_table() {
  static const Table made = make_table("clips", "test_steering_matrix_clips.cpp", clips_rows());
  return made;
}

}  // namespace

TEST_CASE("Restoration is what it says with every sampler and prediction type") {
  restoration_table().check();
}
TEST_CASE("Clips are what they are said to be with every sampler and prediction type") {
  clips_table().check();
}
TEST_CASE("docs/steering.md shows the matrices of restoration and clips as they are") {
  restoration_table().check_page();
  clips_table().check_page();
}
TEST_CASE("The matrices of restoration and clips, printed", "[.print]") {
  restoration_table().print();
  clips_table().print();
}
