#ifndef DIFFUSION_EXAMPLES_TORCH_DENOISER_HPP
#define DIFFUSION_EXAMPLES_TORCH_DENOISER_HPP

#include <torch/script.h>

#include <Eigen/Core>

#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

/// A TorchScript module `forward(x, timesteps) -> prediction` as a denoiser over raw buffers. On
/// the CPU the module reads the loop's memory as it is; its answer is copied once.
///
/// One object may serve several threads as long as the module itself keeps no state in forward().
class TorchDenoiser {
 public:
  /// `time_type` is what the module was traced or scripted with: torch::kInt64 for discrete
  /// timesteps, torch::kFloat32 for times that are not whole.
  explicit TorchDenoiser(const std::string& file, torch::Device device = torch::kCPU,
                         torch::Dtype time_type = torch::kInt64)
      : module_(torch::jit::load(file, device)), device_(device), time_type_(time_type) {
    module_.eval();  // dropout and batch normalisation as in use, not as in training
  }

  /// x and out are batch x channels x height x width, or any other shape that the module takes.
  void operator()(const float* x, double t, float* out, std::span<const Eigen::Index> shape) const {
    if (time_type_ == torch::kInt64 && t != std::floor(t))
      throw std::runtime_error("the module takes whole timesteps, it was asked at t = " +
                               std::to_string(t));
    const c10::InferenceMode no_gradients;
    const std::vector<std::int64_t> sizes(shape.begin(), shape.end());
    // from_blob makes a view; to() copies only where the device is another.
    const auto input = torch::from_blob(const_cast<float*>(x), sizes, torch::kFloat32).to(device_);
    const auto times =
        torch::full({sizes[0]}, t, torch::TensorOptions().dtype(time_type_).device(device_));
    auto module = module_;  // a handle; forward() is not const
    const torch::Tensor answer = module.forward({input, times}).toTensor();
    if (answer.sizes() != input.sizes())
      throw std::runtime_error("the module's answer has not the shape of its input");
    torch::from_blob(out, sizes, torch::kFloat32).copy_(answer);  // from any device, stride, type
  }

 private:
  torch::jit::Module module_;
  torch::Device device_;
  torch::Dtype time_type_;
};

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_TORCH_DENOISER_HPP
