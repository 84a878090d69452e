#ifndef DIFFUSION_INTEROP_DIFFUSERS_MINIMAX_CLASS_HPP
#define DIFFUSION_INTEROP_DIFFUSERS_MINIMAX_CLASS_HPP

#include <diffusion/interop/diffusers_keys.hpp>
#include <diffusion/samplers/ddim.hpp>

#include <cstddef>
#include <vector>

/// MiniMaxH3Scheduler: Euler on rectified flow with a static shift, told 1 - sigma, for a network
/// whose velocity points to the data.
namespace diffusion::detail {

/// The sigmas k u / (1 + (k - 1) u) of n even u from 1 down to 0, 0 included, in type Scalar; equal
/// neighbours (where single precision cannot tell them apart) are one.
template <class Scalar>
std::vector<double> minimax_sigmas(int n, double shift) {
  require_range("steps of MiniMaxH3Scheduler, which counts the end as one", n, 2, 1'000'000);
  std::vector<double> sigmas;
  for (const Scalar u : torch_linspace<Scalar>(1, 0, n)) {
    const Scalar top = rounded(static_cast<Scalar>(shift) * u);
    const Scalar below = rounded(static_cast<Scalar>(shift - 1) * u);
    const double sigma = static_cast<double>(top / (1 + below));
    if (sigmas.empty() || sigma != sigmas.back()) sigmas.push_back(sigma);
  }
  return sigmas;
}

/// The times of a run, 1 - sigma, are made in single precision where the sigmas are.
inline Grid minimax_grid(const std::vector<double>& sigmas, bool single) {
  std::vector<Knot> knots;
  for (const double sigma : sigmas) {
    const double t = single ? static_cast<double>(1 - static_cast<float>(sigma)) : 1 - sigma;
    knots.push_back({t, 1 - sigma, sigma});
  }
  return Grid::through(knots);
}

inline void read_minimax(ConfigKeys& keys, DiffusersConfig& config) {
  const double shift = keys.number("shift", 12, positive);
  config.prediction_type = PredictionType::data_flow;
  config.method.grid = [shift](const DiffusersRun& run, TablePrecision precision) {
    const bool single = precision == TablePrecision::float32;
    if (run.sigmas.empty())
      return minimax_grid(single ? minimax_sigmas<float>(run.steps, shift)
                                 : minimax_sigmas<double>(run.steps, shift),
                          single);
    for (std::size_t i = 0; i < run.sigmas.size(); ++i)
      require_range(text("sigmas[", i, "]").c_str(), run.sigmas[i], 0.0, 1.0);
    for (std::size_t i = 1; i < run.sigmas.size(); ++i)
      if (!(run.sigmas[i] < run.sigmas[i - 1]))
        fail(text("sigmas[", i, "] is ", run.sigmas[i], "; it must be less than the one before"));
    if (run.sigmas.back() != 0)
      fail(text("the last of the sigmas is ", run.sigmas.back(),
                "; MiniMaxH3Scheduler wants it to be 0"));
    return minimax_grid(run.sigmas, single);
  };
  config.method.plan = [](const Grid& grid, const DiffusersRun&) {
    return make_plan(grid, DdimOptions{});
  };
  config.method.level = [](double t, const DiffusersRun&, TablePrecision) {
    require_range("timestep", t, 0.0, 1.0);
    return Knot{t, t, 1 - t};
  };
  config.method.sigmas = [](const SamplingPlan& plan) {
    std::vector<double> sigmas;
    for (const Stage& stage : plan.stages()) sigmas.push_back(stage.at.sigma);
    sigmas.push_back(plan.stages().back().to.sigma);
    return sigmas;
  };
}

}  // namespace diffusion::detail

#endif  // DIFFUSION_INTEROP_DIFFUSERS_MINIMAX_CLASS_HPP
