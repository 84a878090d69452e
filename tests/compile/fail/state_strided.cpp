// A map with strides: its elements do not lie one behind the other.
// says: a state must be contiguous
#include "fault.hpp"

void use() {
  Eigen::MatrixXf whole = Eigen::MatrixXf::Zero(4, 6);
#ifdef FAULT
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> x(whole.data(), 2, 6,
                                                         Eigen::OuterStride<>(4));
#else
  Eigen::Map<Eigen::MatrixXf> x(whole.data(), 4, 6);
#endif
  sample_in_place(sampler(), AnyNetwork(), x, PhiloxNoise{1});
}
