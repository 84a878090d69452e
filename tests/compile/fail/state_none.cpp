// A state whose memory is not contiguous, of a type that the library does not know.
// says: a state must be an Eigen Tensor, TensorFixedSize, Matrix, Array
#include "fault.hpp"

#include <list>
#include <vector>

void use() {
#ifdef FAULT
  std::list<float> x(12);
#else
  std::vector<float> x(12);
#endif
  sample_in_place(sampler(), AnyNetwork(), x, PhiloxNoise{1});
}
