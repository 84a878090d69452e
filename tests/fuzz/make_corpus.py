"""Writes the seeds of the fuzz targets: python3 tests/fuzz/make_corpus.py

Small files of every kind that a reader takes, and of every kind that it refuses with a message of
its own. What fuzzing found stands beside them as found-*, written by hand.
"""

import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def npy(header, data=b"", version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data


def npy_header(shape, descr="<f4", order="False"):
    return "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n" % (descr, order, shape)


def make_npy():
    floats = struct.pack("<6f", 0, 1, -2.5, 1e-40, float("inf"), float("nan"))
    write("npy", "matrix", npy(npy_header("(2, 3)"), floats))
    write("npy", "vector-2", npy(npy_header("(6,)"), floats, version=2))
    write("npy", "scalar-3", npy(npy_header("()"), floats[:4], version=3))
    write("npy", "empty", npy(npy_header("(3, 0)")))
    write("npy", "rank-6", npy(npy_header("(1, 1, 6, 1, 1, 1)"), floats))
    spelled = '{"shape" :(2,3) ,\t"fortran_order":False,"descr":"<f4"}'
    write("npy", "other-spelling", npy(spelled, floats))
    write("npy", "bad-type", npy(npy_header("(6,)", descr="<f8"), floats))
    write("npy", "bad-order", npy(npy_header("(6,)", order="True"), floats))
    write("npy", "bad-size", npy(npy_header("(999999999999999, 999999999999999)"), floats))
    write("npy", "bad-zero-and-large", npy(npy_header("(999999999999999, 99999999999999, 0)")))
    write("npy", "bad-short", npy(npy_header("(2, 3)"), floats)[:-1])
    write("npy", "bad-header-length", npy(npy_header("(2, 3)"))[:40])
    write("npy", "bad-long-type", npy(npy_header("(6,)", descr="x" * 3000), floats))
    write("npy", "bad-control-characters", npy("{'descr': '<\0\n\x1b', "))


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make_safetensors():
    def put(name, header, data=b""):
        write("safetensors", name, safetensors(header, data))

    every = {
        "__metadata__": {"format": "pt"},
        "a.weight": entry("F32", [2, 1], 0, 8),
        "b": entry("F16", [3], 8, 14),
        "c": entry("BF16", [1, 1, 1], 14, 16),
        "d": entry("F64", [], 16, 24),
        "e": entry("F32", [0, 5], 24, 24),
    }
    put("every-type", every, bytes(range(100, 124)))
    put("nothing", {})
    put("metadata-only", {"__metadata__": {}})
    put("bad-type", {"a": entry("I64", [1], 0, 8)}, bytes(8))
    put("bad-size", {"a": entry("F32", [3], 0, 8)}, bytes(8))
    put("bad-overflow", {"a": entry("F32", [2**32, 2**32], 0, 0)})
    put("bad-largest", {"a": entry("F32", [2**63 - 1, 2], 0, 0)})
    put("bad-order", {"a": entry("F32", [2], 8, 0)}, bytes(8))
    put("bad-end", {"a": entry("F32", [2], 0, 2**63 - 1)}, bytes(8))
    put("bad-gap", {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12))
    put("bad-overlap", {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)}, bytes(12))
    put("bad-twice", b'{"a":1,"a":2}')
    put("bad-depth", b"[" * 200)
    put("bad-text", b'{"\xff":1}')
    put("bad-negative", b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4))
    put("bad-long-name", {"x" * 2000: 1})
    put("bad-control-characters", b'{"a\\u0000\\n\\u001b":1}')
    write("safetensors", "bad-header-length", struct.pack("<Q", 2**64 - 1) + b"{}")
    write("safetensors", "bad-short", b"\0\0\0")


def make_unet_config():
    def put(name, fields):
        write("unet_config", name, json.dumps(fields))

    small = {
        "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1,
        "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 8,
    }
    put("defaults", {})
    put("small", small)
    put("classes", small | {"num_class_embeds": 21, "class_embed_type": None})
    put("class-timestep", small | {"class_embed_type": "timestep", "act_fn": "Swish"})
    put("scale-shift", small | {"resnet_time_scale_shift": "scale_shift", "mid_block_type": None,
                                "attention_head_dim": None, "add_attention": False})
    put("learned", small | {"time_embedding_type": "learned", "num_train_timesteps": 10})
    put("resampling", small | {"downsample_type": "resnet", "upsample_type": "resnet",
                               "down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D"],
                               "up_block_types": ["UpBlock2D", "ResnetUpsampleBlock2D"]})
    put("skip", small | {"down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"],
                         "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"],
                         "in_channels": 3, "out_channels": 3, "time_embedding_type": "fourier"})
    put("old-names", small | {"down_block_types": ["UNetResDownBlock2D"] * 2,
                              "up_block_types": ["UNetResUpBlock2D"] * 2})
    put("largest", {"block_out_channels": [2**20] * 4, "layers_per_block": 1024,
                    "in_channels": 2**20, "norm_num_groups": 2**20, "sample_size": [2**20, 2**20]})
    put("bad-levels", {"block_out_channels": [8]})
    put("bad-class", {"_class_name": "UNet2DConditionModel"})
    put("bad-integer", {"in_channels": 2**64 - 1})
    put("bad-number", {"norm_eps": -1})
    put("bad-word", {"act_fn": "x" * 2000})
    put("bad-list", {"block_out_channels": []})
    write("unet_config", "bad-twice", '{"in_channels": 1, "in_channels": 2}')
    write("unet_config", "bad-depth", "[" * 200)
    write("unet_config", "bad-object", "[1e400]")


# The other classes, each with keys that take it off its beaten track.
SCHEDULERS = {
    "DDIMParallel": {"num_train_timesteps": 70, "timestep_spacing": "trailing"},
    "PNDM": {"num_train_timesteps": 300, "set_alpha_to_one": False, "steps_offset": 1},
    "IPNDM": {"num_train_timesteps": 100},
    "UniPCMultistep": {"num_train_timesteps": 200, "solver_order": 3, "solver_type": "bh1",
                       "predict_x0": False, "final_sigmas_type": "sigma_min",
                       "disable_corrector": [0, 2]},
    "SASolver": {"num_train_timesteps": 150, "predictor_order": 3, "corrector_order": 2,
                 "algorithm_type": "noise_prediction", "use_karras_sigmas": True},
    "DPMSolverMultistep": {"num_train_timesteps": 120, "solver_order": 3, "use_lu_lambdas": True,
                           "algorithm_type": "sde-dpmsolver++", "euler_at_final": True,
                           "variance_type": None, "lambda_min_clipped": -5.1},
    "DPMSolverMultistepInverse": {"num_train_timesteps": 100, "solver_type": "heun",
                                  "use_exponential_sigmas": True},
    "DPMSolverSinglestep": {"num_train_timesteps": 90, "solver_order": 3,
                            "lower_order_final": False, "use_beta_sigmas": True},
    "DEISMultistep": {"num_train_timesteps": 100, "solver_order": 3, "use_flow_sigmas": True,
                      "flow_shift": 3, "prediction_type": "flow_prediction"},
    "EDMDPMSolverMultistep": {"sigma_min": 0.01, "sigma_max": 20, "sigma_data": 0.7,
                              "sigma_schedule": "exponential", "rho": 3, "solver_order": 3},
    "CosineDPMSolverMultistep": {"sigma_min": 0.3, "sigma_max": 500, "solver_order": 1},
    "EulerDiscrete": {"num_train_timesteps": 110, "interpolation_type": "log_linear",
                      "use_karras_sigmas": True, "timestep_type": "continuous", "sigma_min": 0.1,
                      "sigma_max": 9, "prediction_type": "v_prediction"},
    "EulerAncestralDiscrete": {"num_train_timesteps": 60, "timestep_spacing": "leading",
                               "rescale_betas_zero_snr": True},
    "HeunDiscrete": {"num_train_timesteps": 80, "use_karras_sigmas": True, "clip_sample": True},
    "LMSDiscrete": {"num_train_timesteps": 70, "use_exponential_sigmas": True},
    "KDPM2Discrete": {"num_train_timesteps": 60, "use_beta_sigmas": True},
    "KDPM2AncestralDiscrete": {"num_train_timesteps": 65, "steps_offset": 1},
    "DPMSolverSDE": {"num_train_timesteps": 75, "noise_sampler_seed": 3},
    "EDMEuler": {"sigma_min": 0.02, "sigma_max": 30, "final_sigmas_type": "sigma_min"},
    "FlowMatchEulerDiscrete": {"shift": 3, "use_dynamic_shifting": True, "shift_terminal": 0.1,
                               "time_shift_type": "linear", "stochastic_sampling": True},
    "FlowMatchHeunDiscrete": {"num_train_timesteps": 500, "shift": 2},
    "FlowMatchLCM": {"use_beta_sigmas": True, "invert_sigmas": True, "scale_factors": None},
    "FlowMapEulerDiscrete": {"shift": 0.5},
    "LTXEulerAncestralRF": {"eta": 0.5, "s_noise": 1.01},
    "LCM": {"num_train_timesteps": 400, "original_inference_steps": 40, "timestep_scaling": 5},
    "TCD": {"num_train_timesteps": 400, "original_inference_steps": 50},
    "CMStochasticIterative": {"sigma_max": 20, "s_noise": 0.9, "clip_denoised": False},
    "ConsistencyDecoder": {"sigma_data": 0.6},
    "SCM": {"sigma_data": 0.4},
    "UnCLIP": {"num_train_timesteps": 50, "variance_type": "learned_range"},
    "DDPMWuerstchen": {"scaler": 2, "s": 0.01},
    "CogVideoXDDIM": {"num_train_timesteps": 60, "snr_shift_scale": 1.5},
    "CogVideoXDPM": {"num_train_timesteps": 60, "timestep_spacing": "trailing"},
    "ScoreSdeVe": {"correct_steps": 2, "snr": 0.2, "sigma_max": 50},
    "ScoreSdeVp": {"beta_min": 0.5, "beta_max": 10, "sampling_eps": 0.01},
    "MiniMaxH3": {"shift": 5},
}


def make_scheduler_config():
    def put(name, fields):
        write("scheduler_config", name, json.dumps(fields))

    def scheduler(name, **fields):
        return {"_class_name": name + "Scheduler", "_diffusers_version": "0.30.0"} | fields

    put("ddpm", scheduler("DDPM", num_train_timesteps=100, beta_schedule="squaredcos_cap_v2",
                          variance_type="fixed_small_log", clip_sample=True))
    put("ddpm-learned", scheduler("DDPMParallel", num_train_timesteps=60, beta_schedule="sigmoid",
                                  variance_type="learned_range", timestep_spacing="trailing"))
    put("ddpm-laplace", scheduler("DDPM", num_train_timesteps=50, beta_schedule="laplace",
                                  thresholding=True, sample_max_value=1.5,
                                  dynamic_thresholding_ratio=0.9, variance_type="fixed_large"))
    put("ddim", scheduler("DDIM", num_train_timesteps=200, beta_start=0.00085, beta_end=0.012,
                          beta_schedule="scaled_linear", set_alpha_to_one=False, steps_offset=1,
                          trained_betas=None, unknown=[1, {"a": 2}]))
    put("ddim-zero-snr", scheduler("DDIM", num_train_timesteps=80, rescale_betas_zero_snr=True,
                                   prediction_type="v_prediction", timestep_spacing="linspace"))
    put("ddim-inverse", scheduler("DDIMInverse", num_train_timesteps=90, set_alpha_to_zero=False))
    put("trained-betas", scheduler("DDIM", num_train_timesteps=4,
                                   trained_betas=[0.1, 0.2, 0.3, 0.4, 1]))
    put("live", scheduler("DDPM", num_train_timesteps=30, beta_start=0.5,
                          _use_default_values=["beta_start", "variance_type"]))
    put("betas-near-the-limits", scheduler("DDPM", num_train_timesteps=500, beta_start=2.3e-308,
                                           beta_end=1 - 2**-53))
    put("one-timestep", scheduler("DDIM", num_train_timesteps=1))
    for name, fields in SCHEDULERS.items():
        put("class-" + name.lower(), scheduler(name, **fields))
    put("bad-class", scheduler("Euler"))
    put("bad-number", scheduler("DDIM", beta_end=2))
    put("bad-integer", scheduler("DDIM", num_train_timesteps=1e300))
    put("bad-word", scheduler("DDIM", beta_schedule="x" * 2000))
    put("bad-betas", scheduler("DDIM", trained_betas=[0.1, "0.2"]))
    write("scheduler_config", "infinities",
          '{"_class_name": "DDPMScheduler", "sample_max_value": Infinity, "a": [-Infinity, NaN]}')
    write("scheduler_config", "infinity-in-a-string",
          '{"_class_name": "DDIMScheduler", "x": "\\"Infinity\\\\", "\\u0000": "\\u0000-"}')
    write("scheduler_config", "bad-depth", "[" * 200)
    write("scheduler_config", "bad-long-text", '{"_class_name": "' + "x" * 3000)
    write("scheduler_config", "bad-text", '{"_class_name": "DDIMScheduler", "\\u0000')


if __name__ == "__main__":
    make_npy()
    make_safetensors()
    make_unet_config()
    make_scheduler_config()
    print(sum(f.stat().st_size for f in CORPUS.rglob("*") if f.is_file()), "bytes of seeds")
