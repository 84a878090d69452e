#ifndef DIFFUSION_DIFFUSION_HPP
#define DIFFUSION_DIFFUSION_HPP

/// Everything that needs Eigen alone. A convenience: each header below stands by itself.
#include <diffusion/denoiser/denoiser.hpp>
#include <diffusion/denoiser/prediction_type.hpp>
#include <diffusion/denoiser/query.hpp>
#include <diffusion/denoiser/raw_denoiser.hpp>
#include <diffusion/denoiser/thresholding.hpp>
#include <diffusion/error.hpp>
#include <diffusion/forward/bound_terms.hpp>
#include <diffusion/forward/diagonal_gaussian.hpp>
#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/forward/latent_scaling.hpp>
#include <diffusion/forward/level_distribution.hpp>
#include <diffusion/forward/loss_weighting.hpp>
#include <diffusion/forward/normal_distribution.hpp>
#include <diffusion/forward/variational_bound.hpp>
#include <diffusion/guidance/classifier_free.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>
#include <diffusion/plan/laws.hpp>
#include <diffusion/plan/plan.hpp>
#include <diffusion/plan/print.hpp>
#include <diffusion/samplers/ddim.hpp>
#include <diffusion/samplers/ddpm.hpp>
#include <diffusion/sampling/sample.hpp>
#include <diffusion/schedule/beta_quantile.hpp>
#include <diffusion/schedule/continuous.hpp>
#include <diffusion/schedule/grid.hpp>
#include <diffusion/schedule/noise_schedule.hpp>
#include <diffusion/schedule/sigma_spacing.hpp>
#include <diffusion/tensor/device.hpp>
#include <diffusion/tensor/state.hpp>
#include <diffusion/version.hpp>

#endif  // DIFFUSION_DIFFUSION_HPP
