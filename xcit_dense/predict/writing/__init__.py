"""Writing predictions: pictures, label maps and the JSON of detections."""
