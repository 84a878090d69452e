// A TorchScript module as the network: samples with DDIM from the start that a reference file names
// and compares the end with that of the Python loop in make_module.py.
//
//   libtorch-ddim tests/data/torchscript/module.pt tests/data/torchscript/reference.json
#include "torch_denoiser.hpp"

#include <ATen/Parallel.h>

#include <diffusion/diffusion.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

namespace {

using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;        // batch, channel, height, width
using ColumnImage = Eigen::Tensor<float, 4, Eigen::ColMajor>;  // width, height, channel, batch

template <class T>
std::vector<float> sampled(const examples::TorchDenoiser& network,
                           const Eigen::array<Eigen::Index, 4>& shape, int steps,
                           const std::vector<float>& start) {
  const auto schedule = diffusion::NoiseSchedule<>::linear();
  const diffusion::DdimSampler sampler{schedule, {.steps = steps}};
  T x(shape);
  std::copy(start.begin(), start.end(), x.data());
  const auto result = diffusion::sample_in_place(sampler, network, x, diffusion::PhiloxNoise{42},
                                                 {.prediction_type = diffusion::PredictionType::v});
  if (!result.done()) throw std::runtime_error("the run ended early");
  return std::vector<float>(x.data(), x.data() + x.size());
}

double largest_difference(const std::vector<float>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) throw std::runtime_error("the reference has another size");
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - b[i]));
  return largest;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: libtorch-ddim MODULE REFERENCE\n");
    return 2;
  }
  try {
    at::set_num_threads(1);  // this network is too small to share
    const examples::TorchDenoiser network(argv[1]);
    std::ifstream file(argv[2]);
    if (!file) throw std::runtime_error(std::string(argv[2]) + " cannot be read");
    const auto reference = nlohmann::json::parse(file);
    const auto start = reference.at("start").get<std::vector<float>>();
    const auto end = reference.at("end").get<std::vector<double>>();
    const auto extents = reference.at("shape").get<std::array<Eigen::Index, 4>>();
    const int steps = reference.at("steps").get<int>();

    // The same memory, told in either order: both are batch x channel x height x width to Torch.
    const auto [n, c, h, w] = extents;
    const double rows =
        largest_difference(sampled<Image>(network, {n, c, h, w}, steps, start), end);
    const double columns =
        largest_difference(sampled<ColumnImage>(network, {w, h, c, n}, steps, start), end);
    std::printf("largest difference from Python: %.1e row-major, %.1e column-major\n", rows,
                columns);
    return rows < 1e-5 && columns < 1e-5 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "libtorch-ddim: %s\n", error.what());
    return 2;
  }
}
