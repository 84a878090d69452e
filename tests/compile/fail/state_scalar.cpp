// A state of whole numbers.
// says: the scalar of a state must be float, double, Eigen::half or Eigen::bfloat16
#include "fault.hpp"

#ifdef FAULT
using Scalar = int;
#else
using Scalar = double;
#endif

void use() {
  Eigen::Tensor<Scalar, 3, Eigen::RowMajor> x(2, 3, 4);
  sample_in_place(sampler(), AnyNetwork(), x, PhiloxNoise{1});
}
