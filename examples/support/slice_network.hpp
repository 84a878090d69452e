#ifndef DIFFUSION_EXAMPLES_SLICE_NETWORK_HPP
#define DIFFUSION_EXAMPLES_SLICE_NETWORK_HPP

#include <diffusion/denoiser/query.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <nn/unet2d.hpp>

#include <cstddef>
#include <vector>

namespace examples {

/// The network as guidance asks it where each picture of the batch has a time of its own.
inline auto conditional_by_picture(nn::Unet2d<float>& network) {
  using Batch = nn::Unet2d<float>::Batch;
  return [&network, labels = std::vector<int>(), times = std::vector<double>()](
             const Batch& x, const diffusion::Query& query,
             const diffusion::Conditions<int>& classes, Batch& out) mutable {
    labels.clear();
    for (std::size_t i = 0; i < classes.size(); ++i) labels.push_back(classes[i]);
    times.assign(classes.size(), query.t);
    if (!query.times.empty()) times.assign(query.times.begin(), query.times.end());
    network(x, times, labels, out);
  };
}

}  // namespace examples

#endif  // DIFFUSION_EXAMPLES_SLICE_NETWORK_HPP
