#ifndef DIFFUSION_EXAMPLES_RESTORATION_HPP
#define DIFFUSION_EXAMPLES_RESTORATION_HPP

#include <diffusion/inverse/operators.hpp>
#include <diffusion/inverse/problem.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <support/gallery.hpp>

#include <Eigen/Core>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace examples {

/// Pictures that were damaged in three ways, for programs that restore them: half of the picture
/// missing, averages of 4 x 4 pixels, blur; each with noise. The pictures are the network's own,
/// seed i of class i; they are restored by the network without being told the class, from other
/// noise.
class Restoration {
 public:
  static constexpr double sigma_y = 0.05;       ///< deviation of the measurement's noise
  static constexpr std::uint64_t start = 1000;  ///< seed of the first restored picture's noise
  static constexpr std::uint64_t own = 3000;    ///< first seed for noise of a method's own

  explicit Restoration(Gallery& gallery)
      : gallery_(gallery), labels_(gallery.labels()), pictures_(made()) {
    gallery.add("the pictures", pictures_, labels_);
  }

  /// The network without a condition.
  auto network() {
    return gallery_.guided(std::vector<int>(gallery_.count(), gallery_.model().null_class()), 1);
  }

  /// Restored pictures: a plan or sampler from noise, with the edits of a method.
  template <class Plan, class Denoiser, class... Edits>
  Pictures sample(const Plan& plan, Denoiser&& denoiser, Edits&&... edits) {
    Pictures x = gallery_.noise(start);
    gallery_.run(plan, denoiser, x, std::forward<Edits>(edits)...);
    return x;
  }

  /// method(problem, show) for every damage, where show(name, restored pictures) adds a strip.
  template <class Method>
  void each(const Method& method) {
    const diffusion::PictureSize size{pictures_.dimension(1), pictures_.dimension(2),
                                      pictures_.dimension(3)};
    Eigen::VectorXd upper = Eigen::VectorXd::Zero(size.total());
    upper.head(size.total() / 2).setOnes();
    one("lower half missing", diffusion::MaskOperator(upper), method);
    one("averages of 4x4", diffusion::block_average(size, 4), method);
    one("blurred", blurred(size), method);
  }

 private:
  /// Directions that a blur leaves less than a tenth of are as good as not measured.
  static diffusion::SeparableOperator blurred(const diffusion::PictureSize& size) {
    return diffusion::blur(size, diffusion::gaussian_kernel(1.5, 4), diffusion::Boundary::mirror,
                           0.1);
  }

  Pictures made() {
    const diffusion::DdimSampler sampler{gallery_.schedule(),
                                         {.steps = 30,
                                          .grid = {.spacing = diffusion::TimestepSpacing::trailing},
                                          .clipping = diffusion::Clipping::range(1)}};
    return gallery_.sample(sampler, gallery_.guided(labels_, 2));
  }

  template <class A, class Method>
  void one(const std::string& damage, const A& op, const Method& method) {
    const diffusion::InverseProblem<A> problem(
        op, diffusion::measure(op, pictures_, sigma_y, SeedPerPicture{2000}), sigma_y);
    gallery_.add(damage, seen(problem));
    method(problem, [&](const std::string& name, const Pictures& restored) {
      gallery_.add(name + ", " + damage, restored, labels_);
      report(problem, restored);
    });
  }

  /// A measurement as a picture: itself where it is one, else A^+ y.
  template <class A>
  Pictures seen(const diffusion::InverseProblem<A>& problem) const {
    Pictures x = pictures_;
    const Eigen::Index size = problem.op().inputs();
    for (Eigen::Index i = 0; i < x.dimension(0); ++i) {
      const Eigen::VectorXd y = problem.y(static_cast<std::size_t>(i));
      Eigen::Map<Eigen::VectorXf>(x.data() + i * size, size) =
          (y.size() == size ? y : diffusion::detail::regularised_inverse(problem.op(), y, 1, 0))
              .template cast<float>();
    }
    return x;
  }

  template <class A>
  void report(const diffusion::InverseProblem<A>& problem, const Pictures& restored) const {
    const Eigen::MatrixXd y = diffusion::measure(problem.op(), restored);
    double square = 0;
    for (Eigen::Index i = 0; i < y.cols(); ++i)
      square += (y.col(i) - problem.y(static_cast<std::size_t>(i))).squaredNorm();
    std::printf("    residual %.3f a measured number, mean distance to the pictures %.3f\n",
                std::sqrt(square / static_cast<double>(y.size())),
                mean_distance(restored, pictures_));
  }

  Gallery& gallery_;
  std::vector<int> labels_;
  Pictures pictures_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_RESTORATION_HPP
