"""Faces: from cameras and video files to face samples; the only package that imports cv2 and mediapipe, lazily.

Modules in reading order; each imports only those below it:

- ``process``: the face process, and its messages
- ``openface``: OpenFace's CSV format, and the export of a video's faces
- ``capture``: cameras and video files: opening, grabbing and recording
- ``reader``: from face meshes to face samples, with their quality
- ``neutral``: the neutral face, and its calibration
- ``action_units``: features of the face, and the 17 action units
- ``extractor``: the two extractors of face meshes
- ``mediapipe``: MediaPipe's models, and tracking of the participant
- ``geometry``: landmarks, alignment, head pose and gaze of a face mesh
- ``hog``: the HOG descriptor of the aligned face
- ``image``: pictures, and what is measured on their pixels
- ``layout``: the channels of a CLMER-Face stream
"""
