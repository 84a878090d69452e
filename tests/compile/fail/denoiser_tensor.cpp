// A network of another tensor type than the state.
// says: a denoiser must be callable as (const Tensor& x, double t, Tensor& out)
#include "fault.hpp"

#ifdef FAULT
using Seen = Eigen::Tensor<double, 3, Eigen::RowMajor>;
#else
using Seen = Image;
#endif

void use() {
  const auto network = [](const Seen& x, double, Seen& out) { out = x; };
  Image x = start();
  sample_in_place(sampler(), network, x, PhiloxNoise{1});
}
