#ifndef DIFFUSION_EXAMPLES_CORRELATED_FIELD_HPP
#define DIFFUSION_EXAMPLES_CORRELATED_FIELD_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/noise/philox.hpp>

#include <Eigen/Dense>
#include <unsupported/Eigen/CXX11/Tensor>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace examples {

using Fields = Eigen::Tensor<float, 4, Eigen::RowMajor>;  // batch, channel, height, width

/// Pictures of side x side Gaussian numbers of deviation 0.4 that fall off with the distance as
/// exp(-d / 6), and the perfect network for them, which may be told a level for each element.
class CorrelatedField {
 public:
  explicit CorrelatedField(int side) : covariance_(side * side, side * side) {
    for (int i = 0; i < side * side; ++i)
      for (int k = 0; k < side * side; ++k)
        covariance_(i, k) =
            0.16 * std::exp(-std::hypot(i / side - k / side, i % side - k % side) / 6);
  }

  /// One field.
  Eigen::VectorXd draw(std::uint64_t seed) const {
    Eigen::VectorXd z(covariance_.rows());
    diffusion::PhiloxNoise{seed}.fill(
        0, 0, 0, std::span<double>(z.data(), static_cast<std::size_t>(z.size())));
    return covariance_.llt().matrixL() * z;
  }

  /// E[x0 | x] = C A (A C A + S^2)^-1 x for x = A x0 + S eps. Element i stands at the level of
  /// slice slice_of(i), in all samples alike.
  template <class SliceOf>
  void clean(const Fields& x, const diffusion::Query& query, const SliceOf& slice_of,
             Fields& x0) const {
    const Eigen::Index n = covariance_.rows();
    Eigen::ArrayXd alpha(n), sigma(n);
    for (Eigen::Index i = 0; i < n; ++i) {
      const auto slice = static_cast<std::size_t>(slice_of(static_cast<int>(i)));
      alpha(i) = query.levels.empty() ? query.alpha : query.levels[slice].alpha;
      sigma(i) = query.levels.empty() ? query.sigma : query.levels[slice].sigma;
    }
    const auto a = alpha.matrix().asDiagonal();
    const Eigen::MatrixXd both = a * covariance_;
    Eigen::MatrixXd noisy = both * a;
    noisy.diagonal().array() += sigma.square() + 1e-9;
    const Eigen::Map<const Eigen::MatrixXf> z(x.data(), n, x.dimension(0));
    Eigen::Map<Eigen::MatrixXf>(x0.data(), n, x.dimension(0)) =
        (both.transpose() * noisy.llt().solve(z.cast<double>())).cast<float>();
  }

 private:
  Eigen::MatrixXd covariance_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_CORRELATED_FIELD_HPP
