// A const denoiser whose operator() is not.
// says: the denoiser is const, but its operator() is not
#include "fault.hpp"

struct Network {
  int calls = 0;
  void operator()(const Image& x, double, Image& out) {
    ++calls;
    out = x;
  }
};

void use() {
#ifdef FAULT
  const Network network;
#else
  Network network;
#endif
  sample<Image>(sampler(), network, {2, 3, 4}, PhiloxNoise{1});
}
