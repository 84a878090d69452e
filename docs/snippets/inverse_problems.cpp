// Inverse problems: data seen through an operator and noise, and samples that agree with it.
#include <diffusion/denoiser/exact/exact_denoiser.hpp>
#include <diffusion/denoiser/exact/exact_vector_jacobian.hpp>
#include <diffusion/denoiser/exact/linear_posterior.hpp>
#include <diffusion/inverse/ddrm.hpp>
#include <diffusion/inverse/pigdm.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/noise_schedule.hpp>

#include <cstdio>

using Points = Eigen::Tensor<double, 2, Eigen::RowMajor>;

/// The mean over samples, and how far they are from what was measured.
template <class Problem>
void report(const char* name, const Points& x, const Problem& problem) {
  const Eigen::Map<const Eigen::MatrixXd> points(x.data(), 4, x.dimension(0));
  const Eigen::VectorXd mean = points.rowwise().mean();
  std::printf("%-6s mean %5.2f %5.2f %5.2f %5.2f, residual %.2f\n", name, mean[0], mean[1], mean[2],
              mean[3], problem.residual(0, mean).norm());
}

int main() {
  // Four neighbours that go together; of a sample, two averages are measured, with noise.
  const Eigen::MatrixXd C{
      {1, 0.8, 0.6, 0.5}, {0.8, 1, 0.8, 0.6}, {0.6, 0.8, 1, 0.8}, {0.5, 0.6, 0.8, 1}};
  const diffusion::Gaussian prior(Eigen::Vector4d::Zero(), C);
  const auto network = diffusion::exact_denoiser(prior, diffusion::PredictionType::v);

  const diffusion::DenseOperator pairs(Eigen::MatrixXd{{0.5, 0.5, 0, 0}, {0, 0, 0.5, 0.5}});
  const diffusion::InverseProblem problem(pairs, Eigen::MatrixXd{{1.0}, {-0.5}}, 0.2);

  const diffusion::DdimSampler sampler{diffusion::NoiseSchedule<>::scaled_linear(),
                                       {.steps = 100, .eta = 1}};
  const diffusion::PhiloxNoise noise{1};

  // A denoiser made of the network ...
  const auto vjp = diffusion::exact_vector_jacobian(network);
  diffusion::Pigdm steered{network, problem, vjp};
  report("PiGDM", sample<Points>(sampler, steered, {4000, 4}, noise), problem);

  // ... and an edit of the run.
  diffusion::Ddrm ddrm{problem, diffusion::PhiloxNoise{2}};
  report("DDRM", sample<Points>(sampler, network, {4000, 4}, noise, {}, ddrm), problem);

  const diffusion::Gaussian exact = posterior(
      prior, {.A = pairs.matrix(), .y = problem.y(0), .R = 0.04 * Eigen::Matrix2d::Identity()});
  const Eigen::VectorXd& mean = exact.mean();
  std::printf("exact  mean %5.2f %5.2f %5.2f %5.2f, residual %.2f\n", mean[0], mean[1], mean[2],
              mean[3], problem.residual(0, mean).norm());
}
