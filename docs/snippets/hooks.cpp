// docs/editing.md: an edit of one's own, and when each of its members is called.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/dpm_solver.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>

using Points = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Keeps the sum of each sample's x0 at a value, and counts the stages.
struct HoldSum {
  double sum;
  int stages = 0;

  template <class Run>
  void edit_x0(const Run&, Points& x0) {
    x0.colwise() += (sum - x0.rowwise().sum().array()).matrix() / static_cast<double>(x0.cols());
  }
  template <class Run>
  void edit_state(const Run& run, Points&) {
    ++stages;
    last_sigma = run.last().to.sigma;
  }
  double last_sigma = 1;
};

int main() {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const auto network = diffusion::exact_denoiser(
      diffusion::Gaussian::isotropic(Eigen::VectorXd::Zero(3), 0.25), diffusion::PredictionType::v);
  const auto run = [&](const char* name, const auto& sampler) {
    HoldSum hold{1.5};
    const Points x =
        diffusion::sample<Points>(sampler, network, {2, 3}, diffusion::PhiloxNoise{1}, {}, hold);
    std::printf("%s: sums %.2f and %.2f, %d stages, sigma %.0f at the end\n", name, x.row(0).sum(),
                x.row(1).sum(), hold.stages, hold.last_sigma);
  };
  run("DDIM", diffusion::DdimSampler{schedule, {.steps = 20}});
  run("DPM-Solver++ 2M SDE", diffusion::DpmSolverSampler{schedule, {.steps = 20, .eta = 1}});
}
