// A state that cannot be written to.
// says: a state is written to
#include "fault.hpp"

void use() {
  Image x = start();
#ifdef FAULT
  Eigen::TensorMap<const Image> state(x.data(), 2, 3, 4);
#else
  Eigen::TensorMap<Image> state(x.data(), 2, 3, 4);
#endif
  sample_in_place(sampler(), AnyNetwork(), state, PhiloxNoise{1});
}
