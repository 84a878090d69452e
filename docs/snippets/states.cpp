// Every kind of state: what is sampled is the same, whatever it is kept in.
#include <diffusion/diffusion.hpp>

#include <array>
#include <cstdio>
#include <span>
#include <vector>

using namespace diffusion;

/// A network for every kind of state: answers x / 2 whatever the time.
struct Network {
  template <class T, class Out>
  void operator()(const T& x, double, Out& out) const {
    for (Eigen::Index i = 0; i < static_cast<Eigen::Index>(x.size()); ++i)
      out.data()[i] = x.data()[i] / 2;
  }
};

/// The same over raw buffers: what calls a runtime. shape[0] is the batch.
void raw_network(const float* x, double, float* out, std::span<const Eigen::Index> shape) {
  for (Eigen::Index i = 0; i < shape[0] * shape[1]; ++i) out[i] = x[i] / 2;
}

void print(const char* kind, const float* x) {
  std::printf("%-28s %7.2f %7.2f %7.2f\n", kind, static_cast<double>(x[0]),
              static_cast<double>(x[1]), static_cast<double>(x[2]));
}

int main() {
  const DdimSampler sampler{NoiseSchedule<>::linear(), {.steps = 20}};
  const PhiloxNoise noise{42};

  // Three samples of four numbers, a sample after the other in memory.
  using Rows = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  const Rows tensor = sample<Rows>(sampler, Network{}, {3, 4}, noise);
  const auto columns = sample<Eigen::MatrixXf>(sampler, Network{}, {4, 3}, noise);
  const auto fixed = sample<Eigen::Matrix<float, 4, 3>>(sampler, Network{}, {4, 3}, noise);
  const auto raw = sample<Rows>(sampler, raw_network, {3, 4}, noise);
  print("tensor, row-major, 3x4", tensor.data());
  print("matrix, column-major, 4x3", columns.data());
  print("matrix of fixed size", fixed.data());
  print("network over raw buffers", raw.data());

  // In memory that belongs to somebody else: here a copy of the noise that the others began with.
  std::vector<float> memory(12);
  for (std::size_t i = 0; i < 3; ++i) noise.fill(i, 0, 0, std::span(memory).subspan(4 * i, 4));
  const StateView view(memory.data(), std::array<Eigen::Index, 2>{3, 4});
  sample_in_place(sampler, Network{}, view, noise);
  print("pointer and shape", memory.data());

  // A vector of four numbers: a batch of four, or one sample.
  const auto batch = sample<Eigen::VectorXf>(sampler, Network{}, {4}, noise);
  const auto one = sample<Eigen::VectorXf>(sampler, Network{}, {4}, noise, {.batch = false});
  print("vector, four samples", batch.data());
  print("vector, one sample", one.data());
}
