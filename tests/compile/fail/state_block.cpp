// A block of a matrix.
// says: a state must be contiguous
#include "fault.hpp"

void use() {
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(4, 6);
#ifdef FAULT
  auto part = x.topRows(2);
#else
  Eigen::MatrixXf part = x.topRows(2);
#endif
  sample_in_place(sampler(), AnyNetwork(), part, PhiloxNoise{1});
}
