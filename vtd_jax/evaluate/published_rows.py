"""Numbers of published tables in percent: data set -> method -> columns; None where not known.

`vtd_jax.evaluate.published` says what each row is of, and where its digits were read.
"""

# base, novel, harmonic mean
HALVES = {
    "kinetics400": {
        "CLIP, class names": (62.3, 53.4, 57.5),
        "ActionCLIP": (61.0, 46.2, 52.6),
        "X-CLIP": (74.1, 56.4, 64.0),
        "ViFi-CLIP": (76.4, 61.1, 67.9),
        "Open-VCLIP": (76.5, 62.6, 68.9),
        "FROSTER": (77.8, 64.3, 70.4),
        "TC-CLIP": (78.9, 63.6, 70.4),
        "TC-CLIP (LLM)": (79.1, 65.4, 71.6),
        "GA2-CLIP": (77.0, 63.3, 69.5),
    },
    "hmdb51": {
        "CLIP, class names": (53.3, 46.8, 49.8),
        "ActionCLIP": (69.1, 37.3, 48.5),
        "X-CLIP": (69.4, 45.5, 55.0),
        "ViFi-CLIP": (73.8, 53.3, 61.9),
        "ViFi-CLIP prompts": (77.1, 54.9, 64.1),
        "Open-VCLIP": (70.3, 50.4, 58.7),
        "FROSTER": (74.1, 58.0, 65.1),
        "TC-CLIP": (73.3, 54.1, 62.2),
        "TC-CLIP (LLM)": (73.3, 59.1, 65.5),
        "TC-CLIP (P)": (79.4, 58.3, 67.2),
        "GA2-CLIP": (78.3, 58.9, 67.2),
        "VTD-CLIP": (None, None, 70.0),
    },
    "ucf101": {
        "CLIP, class names": (78.5, 63.6, 70.3),
        "ActionCLIP": (90.1, 58.1, 70.7),
        "X-CLIP": (89.9, 58.9, 71.2),
        "ViFi-CLIP": (92.9, 67.7, 78.3),
        "ViFi-CLIP prompts": (95.9, 74.1, 83.6),
        "Open-VCLIP": (94.8, 77.5, 85.3),
        "FROSTER": (95.3, 80.0, 87.0),
        "TC-CLIP": (95.5, 78.0, 85.9),
        "TC-CLIP (LLM)": (95.4, 81.6, 88.0),
        "TC-CLIP (P)": (97.5, 84.5, 90.5),
        "GA2-CLIP": (96.8, 75.2, 84.6),
        "T2L": (94.4, 77.9, 85.4),
    },
    "ssv2": {
        "CLIP, class names": (4.9, 5.3, 5.1),
        "ActionCLIP": (13.3, 10.1, 11.5),
        "X-CLIP": (8.5, 6.6, 7.4),
        "ViFi-CLIP": (16.2, 12.1, 13.9),
        "ViFi-CLIP prompts": (15.8, 11.5, 13.3),
        "Open-VCLIP": (16.0, 11.0, 13.0),
        "FROSTER": (18.3, 12.2, 14.6),
        "TC-CLIP": (17.5, 13.4, 15.2),
        "TC-CLIP (LLM)": (17.5, 13.4, 15.2),
        "TC-CLIP (P)": (19.6, 15.6, 17.4),
        "GA2-CLIP": (18.7, 14.3, 16.2),
        "VTD-CLIP": (None, None, 15.4),
    },
}
# 2, 4, 8 and 16 videos a class
SHOTS = {
    "hmdb51": {
        "X-CLIP": (53.0, 57.3, 62.8, 64.0),
        "ViFi-CLIP": (57.2, 62.7, 64.5, 66.8),
        "ViFi-CLIP prompts": (63.0, 65.1, 69.6, 72.0),
        "TC-CLIP": (57.3, 62.3, 67.3, 68.6),
        "TC-CLIP (P)": (65.3, 68.5, 71.4, 73.0),
        "GA2-CLIP": (61.9, 64.3, 68.1, 70.8),
    },
    "ucf101": {
        "X-CLIP": (76.4, 83.4, 88.3, 91.4),
        "ViFi-CLIP": (80.7, 85.1, 90.0, 92.7),
        "ViFi-CLIP prompts": (91.0, 93.7, 95.0, 96.4),
        "TC-CLIP": (85.9, 89.9, 92.5, 94.6),
        "TC-CLIP (P)": (94.1, 95.6, 96.6, 97.3),
        "GA2-CLIP": (90.0, 91.8, 93.8, 95.5),
    },
    "ssv2": {
        "ViFi-CLIP": (6.2, 7.4, 8.5, 12.4),
        "ViFi-CLIP prompts": (6.7, 7.9, 10.2, 13.5),
        "TC-CLIP": (7.3, 8.6, 9.3, 14.0),
        "TC-CLIP (P)": (8.7, 10.1, 12.1, 15.2),
        "GA2-CLIP": (6.8, 9.9, 10.6, 14.7),
    },
}
# top-1, the mean over three splits of each data set
FROM_KINETICS = {
    "hmdb51": {
        "CLIP, frozen": (47.9,),
        "ActionCLIP": (48.2,),
        "X-CLIP": (44.6,),
        "AIM": (50.3,),
        "ST-Adapter": (51.1,),
        "Vita-CLIP": (48.6,),
        "ViFi-CLIP": (51.3,),
        "Open-VCLIP": (53.9,),
        "FROSTER": (54.8,),
        "TC-CLIP": (54.2,),
        "TC-CLIP (LLM)": (56.0,),
        "T2L": (52.9,),
    },
    "ucf101": {
        "CLIP, frozen": (73.8,),
        "ActionCLIP": (77.5,),
        "X-CLIP": (72.0,),
        "AIM": (79.4,),
        "ST-Adapter": (77.6,),
        "Vita-CLIP": (75.0,),
        "ViFi-CLIP": (76.8,),
        "Open-VCLIP": (83.4,),
        "FROSTER": (84.8,),
        "TC-CLIP": (82.9,),
        "TC-CLIP (LLM)": (85.4,),
        "T2L": (79.1,),
    },
    "kinetics600": {
        "CLIP, frozen": (68.1,),
        "ActionCLIP": (62.5,),
        "X-CLIP": (65.2,),
        "AIM": (66.7,),
        "ST-Adapter": (60.2,),
        "Vita-CLIP": (67.4,),
        "ViFi-CLIP": (71.2,),
        "Open-VCLIP": (73.0,),
        "FROSTER": (74.8,),
        "TC-CLIP": (75.8,),
        "TC-CLIP (LLM)": (78.1,),
        "T2L": (70.1,),
    },
}
# top-1, top-5
SUPERVISED = {
    "kinetics400": {
        "X-CLIP": (84.7, 96.8),
        "ViFi-CLIP": (83.9, 96.3),
        "TC-CLIP": (85.2, 96.9),
        "Vita-CLIP": (81.8, None),
    }
}
